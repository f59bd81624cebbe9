"""What the class token looks at: DINO's pictures of heads, and figures 6 and 7 of the CaiT paper.

Sources: Caron et al. 2021 (https://arxiv.org/abs/2104.14294), figure 1: the last block's attention from the class token
to the patches, head by head. Touvron et al. 2021 (https://arxiv.org/abs/2103.17239), figure 6: both class-attention
layers, head by head; figure 7: the first one's heads together, as a picture of saliency.
"""

from __future__ import annotations

import numpy as np

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.capture import AttentionMaps
from paddle_cait.explain.tokens import asking_tokens, on_grid, one_layer, refuse_windows
from paddle_cait.layers.token_layout import Pair

NO_CLASS_TOKEN = "GCViT has no class token, it averages its last map; see grad_cam and window_attention"


def class_attention(maps: AttentionMaps, layer: str | int = -1, token: int | None = None) -> np.ndarray:
    """The weights with which the class token reads the patches: float64 [B, heads, grid h, grid w].

    They are the model's own numbers: a row sums to 1 together with the tokens before the patches, which are left out.

    Args:
        maps: of :func:`capture_attention`, after a forward.
        layer: name or place among the captured layers. CaiT has a class token in ``blocks_token_only`` alone.
        token: 0 the class token, 1 a distilled DeiT's distillation token; None is the mean of those there are.

    Raises :class:`PaddleCaitError` for a layer that was not captured or has no class token, and for GCViT.
    """
    refuse_windows(maps, "class attention", NO_CLASS_TOKEN)
    name, values, layout = one_layer(maps, layer)
    if not layout.class_tokens:
        own = [other for other, there in maps.layouts.items() if there.class_tokens]
        raise PaddleCaitError(f"{name}: has no class token, {maps.model} has it in {', '.join(own)}")
    return on_grid(values[:, :, asking_tokens(layout, token, name)].mean(2), layout)


def patch_attention(maps: AttentionMaps, patch: Pair, layer: str | int = -1) -> np.ndarray:
    """The weights with which one patch reads the others: float64 [B, heads, grid h, grid w].

    ``maps``, ``layer``: as of :func:`class_attention`. ``patch``: its (row, column) on the grid. Raises
    :class:`PaddleCaitError` for a place beyond it, for a layer in which patches do not ask, and for GCViT.
    """
    refuse_windows(maps, "attention of a patch", "a patch sees its window alone; see window_attention")
    name, values, layout = one_layer(maps, layer)
    rows, columns = layout.grid
    if not (0 <= patch[0] < rows and 0 <= patch[1] < columns):
        raise PaddleCaitError(f"patch is {patch[0]},{patch[1]}, expected a place from 0,0 to {rows - 1},{columns - 1}")
    place = layout.prefix + patch[0] * columns + patch[1]
    if place >= values.shape[2]:
        raise PaddleCaitError(f"{name}: patches do not ask in this layer, choose another")
    return on_grid(values[:, :, place], layout)


def saliency(maps: AttentionMaps, layer: str | int | None = None, token: int | None = None) -> np.ndarray:
    """The heads' mean, stretched to 0..1 in each image: float64 [B, grid h, grid w].

    ``layer``: None is the first class-attention layer of a CaiT, as in its paper, and the last captured layer else.
    ``maps``, ``token`` and what is raised: as of :func:`class_attention`.
    """
    if layer is None:
        layer = next((name for name in maps if maps.layouts[name].kind == "class"), -1)
    return stretch(class_attention(maps, layer, token).mean(1))


def stretch(values: np.ndarray) -> np.ndarray:
    """[..., h, w] -> each map from 0 at its least to 1 at its greatest; a map of one value gives zeros."""
    low, high = values.min((-2, -1), keepdims=True), values.max((-2, -1), keepdims=True)
    return (values - low) / np.where(high > low, high - low, 1.0)


def keep_mass(values: np.ndarray, share: float) -> np.ndarray:
    """bool [..., h, w]: the fewest patches that together hold ``share`` of a map's sum (DINO's thresholded heads).

    ``values`` [..., h, w], none negative; ``share`` above 0 and at most 1, :class:`PaddleCaitError` otherwise.
    """
    if not 0 < share <= 1:
        raise PaddleCaitError(f"the share of attention to keep is {share}, expected above 0 and at most 1")
    flat = values.reshape(*values.shape[:-2], -1)
    order = np.argsort(-flat, axis=-1, kind="stable")
    ranked = np.take_along_axis(flat, order, -1)
    before = ranked.cumsum(-1) - ranked  # what the stronger patches hold without this one
    kept = np.zeros(flat.shape, bool)
    np.put_along_axis(kept, order, before < share * flat.sum(-1, keepdims=True), -1)
    return kept.reshape(values.shape)
