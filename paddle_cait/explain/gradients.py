"""What made a class's score: attention weighted by its gradient, and Grad-CAM.

Chefer, Gur and Wolf 2021, "Generic Attention-model Explainability" (https://arxiv.org/abs/2103.15679), rule for
self-attention: ``A' = mean over heads of (gradient * A, negative parts 0)``, relevance ``R <- R + A' R`` from the first
layer to the last. Selvaraju et al. 2017, Grad-CAM (https://arxiv.org/abs/1610.02391): a feature map's channels weighted
by the mean of their gradients, summed, negative sums 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Union

import numpy as np
import paddle
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.capture import capture_attention
from paddle_cait.explain.rollout import follow_down
from paddle_cait.explain.tokens import array, refuse_windows

Target = Union[int, Sequence[int], None]


def gradient_attention(model: nn.Layer, images: Tensor, target: Target = None, token: int | None = None) -> np.ndarray:
    """How much each patch speaks for a class, through all layers: float64 [B, grid h, grid w], not below 0.

    Args:
        model: a classifier of the ViT line or a CaiT, as ``create_model`` gave it; it runs in evaluation mode.
        images: float32 [B, 3, H, W], prepared as in evaluation.
        target: the class to explain, one for all images or one each; None is each image's predicted class.
        token: 0 the class token, 1 the distillation token; None is the mean of those there are.

    Raises :class:`PaddleCaitError` for a model without classes, a folded one, GCViT, and classes that do not exist.
    """
    _check(model)
    with capture_attention(model, graph=True) as maps:
        refuse_windows(maps, "gradient-weighted attention", "its maps are of windows, use grad_cam")
        gradients = _gradients(model, images, target, lambda: [maps[name] for name in maps.layouts])

    def step(name: str, gradient: Tensor) -> tuple[str, np.ndarray]:
        weighted = np.maximum(array(gradient) * array(maps[name]), 0.0).mean(1)
        return name, weighted + np.eye(*weighted.shape[1:])

    named = list(zip(maps.layouts, gradients))
    return follow_down(maps, (step(*one) for one in reversed(named)), token)


def grad_cam(model: nn.Layer, images: Tensor, target: Target = None, level: int = -1) -> np.ndarray:
    """Where a GCViT's level holds what speaks for a class: float64 [B, h, w] over the level's map, not below 0.

    ``level``: 0 to 3, or from the end; the map is the level's own, before the final norm. ``model``, ``images`` and
    ``target``: as of :func:`gradient_attention`. Raises :class:`PaddleCaitError` for other families, whose patches have
    no gradient in the last block, and for a level or a class that does not exist.
    """
    _check(model)
    if not hasattr(model, "levels"):
        raise PaddleCaitError(
            f"{type(model).__name__}: Grad-CAM needs a map that the classifier averages (GCViT's last level); here the "
            "class token alone is classified, so the last block's patches have no gradient: use gradient_attention"
        )
    if not -len(model.levels) <= level < len(model.levels):
        raise PaddleCaitError(f"level is {level}, expected 0 to {len(model.levels) - 1}, or from the end")
    seen: list[Tensor] = []
    hook = model.levels[level].register_forward_post_hook(lambda layer, inputs, output: seen.append(output))
    try:
        (gradient,) = _gradients(model, images, target, lambda: seen)
    finally:
        hook.remove()
    weights = array(gradient).mean((1, 2), keepdims=True)  # [B, 1, 1, C] of a map [B, h, w, C]
    return np.maximum((weights * array(seen[0])).sum(-1), 0.0)


def _check(model: nn.Layer) -> None:
    if not hasattr(model, "forward_features"):
        raise PaddleCaitError(f"{type(model).__name__}: has no gradients to explain, give create_model's own model")
    if not model.num_classes:
        raise PaddleCaitError(
            f"{type(model).__name__}: gives features, but a gradient explains a class's score: give a classifier, or "
            "look at class_attention or attention_rollout"
        )


def _gradients(model: nn.Layer, images: Tensor, target: Target, wanted: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Of the target's score with respect to ``wanted()``, what was seen on the way to it.

    The scales of layer norms are asked for too, frozen or not: on a CPU, Paddle (2.6.2 and 3.3.1) gives the gradient of
    a layer norm's input without the scale in it where the scale's own gradient is not computed.
    """
    scales = [layer.weight for layer in model.sublayers() if isinstance(layer, nn.LayerNorm)]
    frozen = [scale for scale in scales if scale.stop_gradient]
    try:
        for scale in frozen:
            scale.stop_gradient = False
        with paddle.enable_grad():
            score = _score(model, images, target)
        seen = wanted()
        found = paddle.grad(score, [*seen, *scales], allow_unused=True)
    finally:
        for scale in frozen:
            scale.stop_gradient = True
    return list(found[: len(seen)])


def _score(model: nn.Layer, images: Tensor, target: Target) -> Tensor:
    """The sum over images of the target's logit, with its graph; each image's gradient is its own."""
    was_training = model.training
    model.eval()
    try:
        images = images.detach()
        images.stop_gradient = False  # a graph even where all weights are frozen
        logits = model(images).astype("float32")
    finally:
        if was_training:
            model.train()
    chosen = logits.argmax(-1).tolist() if target is None else target
    classes = [chosen] * len(images) if isinstance(chosen, int) else list(chosen)
    if len(classes) != len(images) or not all(0 <= one < logits.shape[-1] for one in classes):
        raise PaddleCaitError(
            f"target is {target}, expected a class from 0 to {logits.shape[-1] - 1}, or one for each of "
            f"{len(images)} images"
        )
    return (logits * paddle.nn.functional.one_hot(paddle.to_tensor(classes), logits.shape[-1])).sum()
