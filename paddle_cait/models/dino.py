"""DINO (Caron et al., https://arxiv.org/abs/2104.14294) and DINOv2 (Oquab et al., https://arxiv.org/abs/2304.07193).

Official sources: facebookresearch/dino, vision_transformer.py; facebookresearch/dinov2, hub/backbones.py and
models/vision_transformer.py. Parameter names are theirs. Both are backbones: ``num_classes=0`` gives the class token.

DINO is a ViT with its own rule for other image sizes. DINOv2 adds LayerScale, and for some models register tokens
(Darcet et al., https://arxiv.org/abs/2309.16588) and a gated MLP. Its ``mask_token`` serves pre-training alone.
"""

from __future__ import annotations

import functools
from typing import Any

import paddle
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.layers.attention import Attention
from paddle_cait.layers.mlp import Mlp, SwiGlu
from paddle_cait.models.vit import Block, VisionTransformer


class Dino(VisionTransformer):
    """[B, in_chans, H, W] float32 -> features [B, embed_dim]; with ``num_classes`` logits [B, num_classes].

    ``arch``: the other arguments of :class:`VisionTransformer`, with ``resample`` "dino".
    """

    classifier = ("head",)

    def __init__(self, num_classes: int = 0, **arch: Any) -> None:
        super().__init__(num_classes=num_classes, **{"resample": "dino", **arch})


class LayerScale(nn.Layer):
    """[..., dim] times a weight per channel; parameter ``gamma``."""

    def __init__(self, dim: int, init_values: float) -> None:
        super().__init__()
        self.gamma = self.create_parameter([dim], default_initializer=nn.initializer.Constant(init_values))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class DinoV2Block(Block):
    """A ViT block with LayerScale under the names ``ls1.gamma`` and ``ls2.gamma``. [B, T, C] -> [B, T, C]."""

    def __init__(self, attn: Attention, mlp: nn.Layer, dim: int, drop_path: float, init_values: float) -> None:
        super().__init__(attn, mlp, dim, drop_path)
        self.ls1 = LayerScale(dim, init_values)
        self.ls2 = LayerScale(dim, init_values)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


MLPS = {"mlp": Mlp, "swiglu": lambda dim, hidden, drop, act: SwiGlu(dim, hidden)}


class DinoV2(Dino):
    """[B, in_chans, H, W] float32 -> features [B, embed_dim]; with ``num_classes`` logits [B, num_classes].

    ``num_register_tokens`` stand between the class token and the patches and have no position.
    ``ffn``: ``mlp``, or ``swiglu`` as in ViT-g. ``init_values``: initial LayerScale. ``arch``: the other arguments of
    :class:`VisionTransformer`, with ``resample`` "dino", or "timm" beside registers, as the authors have it.
    Raises :class:`PaddleCaitError` for another ``ffn``.
    """

    def __init__(self, num_register_tokens: int = 0, ffn: str = "mlp", init_values: float = 1.0, **arch: Any) -> None:
        if ffn not in MLPS:
            raise PaddleCaitError(f"ffn is {ffn!r}, expected {' or '.join(MLPS)}")
        own = {"resample": "timm" if num_register_tokens else "dino", "mlp": MLPS[ffn]}
        block = functools.partial(DinoV2Block, init_values=init_values)
        super().__init__(block=block, prefix=(1 + num_register_tokens, 1), **{**own, **arch})
        self.register_tokens = self._token(num_register_tokens) if num_register_tokens else None

    def add_positions(self, patches: Tensor) -> Tensor:
        """Patches [B, N, C] -> tokens [B, T, C]; registers have no position."""
        tokens = VisionTransformer.add_positions(self, patches)  # Paddle 2.6's to_static knows no super()
        if self.register_tokens is None:
            return tokens
        cls, patches = tokens[:, :1], tokens[:, 1:]
        registers = self.register_tokens.expand_as(cls.expand([-1, self.num_prefix_tokens - 1, -1]))
        return paddle.concat([cls, registers, patches], axis=1)
