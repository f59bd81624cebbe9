"""``fuse``: the same function as a model, folded for inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.deploy.fused_cait import FORMS, FusedCaiT
from paddle_cait.deploy.fused_gcvit import FusedGCViT
from paddle_cait.deploy.fused_vit import FusedViT
from paddle_cait.deploy.pixels import Pixels
from paddle_cait.errors import PaddleCaitError
from paddle_cait.layers.token_layout import TokenLayout
from paddle_cait.models.cait import CaiT
from paddle_cait.models.gcvit import GCViT
from paddle_cait.models.vit import VisionTransformer

OUTPUTS = ("logits", "features", "attention", "probabilities")
CHAIN_HEADS = 4  # up to so many heads a chain is the faster form in OpenVINO

# runtime -> the form in which it mixes heads fastest; `tools/bench.py --forms` measures them.
TARGETS = {"paddle": "matmul", "onnxruntime": "matmul", "openvino": "chain"}


class FusedModel(nn.Layer):
    """What :func:`fuse` returns. ``preset``, ``load_report``, ``num_classes`` and ``img_size`` are the model's own.

    float32 [B, 3, H, W], or uint8 [B, H, W, 3], -> the one output asked for, or a tuple of them in that order.

    Args:
        model: the one that was folded.
        net: images -> (logits, features, attention).
        outputs: names of what is given, in order; see :func:`fuse`.
        uint8_input: whether images are uint8.
    """

    def __init__(self, model: nn.Layer, net: nn.Layer, outputs: Sequence[str], uint8_input: bool) -> None:
        super().__init__()
        self.net, self.outputs, self.uint8_input = net, tuple(outputs), uint8_input
        self.num_classes, self.img_size = model.num_classes, model.img_size
        self.preset, self.load_report = getattr(model, "preset", None), getattr(model, "load_report", None)
        self._layouts = {name: layout for name, (_, layout) in model.attention_layers().items()}
        self.eval()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Images of :attr:`input_shape` -> what ``outputs`` names, float32.

        Raises :class:`PaddleCaitError` for images of another shape.
        """
        if paddle.in_dynamic_mode():
            self._check(x)
        logits, features, attention = self.net(x)
        found = (logits, features, attention, F.softmax(logits, axis=-1))
        chosen = tuple(found[OUTPUTS.index(name)] for name in self.outputs)
        return chosen[0] if len(chosen) == 1 else chosen

    def attention_layers(self) -> dict[str, tuple[nn.Layer, TokenLayout]]:
        """As the model's own, under the model's names; the ViT line's last one computes only the queries it uses."""
        layers = [layer for layer in self.net.sublayers() if hasattr(layer, "attention")]
        return {name: (layer, layout) for layer, (name, layout) in zip(layers, self._layouts.items())}

    @property
    def input_shape(self) -> list[int]:
        """Of one batch; -1 stands for the batch."""
        return [-1, *self.img_size, 3] if self.uint8_input else [-1, 3, *self.img_size]

    @paddle.jit.not_to_static
    def _check(self, x: Tensor) -> None:
        if list(x.shape[1:]) != self.input_shape[1:]:
            raise PaddleCaitError(f"input is {list(x.shape)}, expected {['batch', *self.input_shape[1:]]}")


def fuse(
    model: nn.Layer,
    target: str = "paddle",
    *,
    outputs: Sequence[str] = ("logits",),
    uint8_input: bool = False,
    form: str | None = None,
) -> FusedModel:
    """An inference model that computes what ``model`` computes, in exact algebra with less work.

    Scales and biases move into neighbouring weights, the last block computes only what leaves it, class attention
    computes no keys or values of all tokens; each family's file says which. ``model`` is left as it is; its weights are
    copied, in float64 until the end. Outputs differ by rounding alone (below 1e-5 in float32).

    Args:
        target: the runtime whose fastest form is chosen: ``paddle``, ``onnxruntime`` or ``openvino``.
        outputs: ``logits`` [B, classes]; ``features`` [B, C], what ``forward_features`` gives (a DeiT with a
            distillation head: [B, 2, C]); ``attention`` [B, heads, queries, keys], the map of the last attention layer
            (the class token's, or GCViT's last map); ``probabilities`` [B, classes], the softmax of the logits, as
            Paddle's own serving tools expect.
        uint8_input: take pixels, uint8 [B, H, W, 3] after resize and crop; mean and deviation are folded in.
        form: how CaiT's heads are mixed, in place of the target's own: ``matmul`` or ``chain``.

    Raises :class:`PaddleCaitError` for other words than these, for a GCViT of feature maps and a model of someone else,
    and for ``uint8_input`` where no preset says mean and deviation.
    """
    if target not in TARGETS:
        raise PaddleCaitError(f"target is {target!r}, expected one of {', '.join(TARGETS)}")
    if form not in (None, *FORMS):
        raise PaddleCaitError(f"form is {form!r}, expected {' or '.join(FORMS)}")
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown or not outputs or len(set(outputs)) != len(outputs):
        raise PaddleCaitError(f"outputs are {list(outputs)}, expected some of {', '.join(OUTPUTS)}, each once")
    pixels = Pixels(model) if uint8_input else None
    with paddle.no_grad():
        net = _net(model, target, pixels, form)
    return FusedModel(model, net, outputs, uint8_input)


def _net(model: nn.Layer, target: str, pixels: Any, form: str | None) -> nn.Layer:
    if isinstance(model, CaiT):
        own = TARGETS[target]
        if own == "chain" and model.blocks[0].attn.num_heads > CHAIN_HEADS:
            own = "matmul"
        return FusedCaiT(model, pixels, form or own)
    if isinstance(model, GCViT) and not model.features_only:
        return FusedGCViT(model, pixels)
    if isinstance(model, VisionTransformer):
        return FusedViT(model, pixels)
    raise PaddleCaitError(
        f"{type(model).__name__} cannot be fused: expected a CaiT, ViT, DeiT, DINO or GCViT classifier"
    )
