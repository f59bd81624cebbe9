"""Mean attention distance: how far a head looks, in pixels of the input.

Dosovitskiy et al. 2021 (https://arxiv.org/abs/2010.11929), figure 7 right; Raghu et al. 2021
(https://arxiv.org/abs/2108.08810). From a patch that asks, the distance between its centre and the centre of each patch
of the image, weighted by attention; of a head, the mean over the patches that ask.

What the papers leave open is decided so, for captured maps and for maps seen while a model runs alike:

- prefix tokens (class, distillation, registers) have no place: they neither ask nor answer, and what a patch gives to
  them is left out of its weights, which are divided by their sum over patches;
- talking heads (CaiT) mix maps after the softmax: a weight may be negative and counts by its size (a head's sign is
  arbitrary, see :mod:`paddle_cait.explain.rollout`), and rows are divided by the sum of sizes;
- a patch that gives nothing to any patch is left out of the mean; a head where no patch is left looks 0 pixels far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import paddle
from paddle import Tensor

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.capture import AttentionMaps
from paddle_cait.explain.tokens import array, refuse_windows
from paddle_cait.layers.token_layout import TokenLayout


def mean_attention_distance(maps: AttentionMaps) -> np.ndarray:
    """Of each image, layer and head: float64 [B, layers, heads], in pixels; the layers are :func:`distance_layers`.

    ``maps``: of :func:`capture_attention`, after a forward. Raises :class:`PaddleCaitError` for GCViT, and for a layer
    where not all patches ask.
    """
    found = []
    for name in distance_layers(maps):
        layout = maps.layouts[name]
        _check(name, maps[name].shape, layout)
        weights = np.abs(array(maps[name])[:, :, layout.prefix :, layout.prefix :])
        weighted = np.einsum("bhij,ij->bhi", weights, patch_distances(layout))
        found.append(_mean_over_patches(weighted, weights.sum(-1)))
    return np.stack(found, axis=1)


def distance_layers(maps: AttentionMaps, among: Iterable[str] | None = None) -> list[str]:
    """The layers in which patches ask patches, of ``among`` (names) or of all in ``maps``: no class layer of CaiT.

    Raises :class:`PaddleCaitError` if there is none, and for GCViT.
    """
    refuse_windows(
        maps,
        "mean attention distance",
        "a window bounds it whatever was learnt, and a global query has no place in the image",
    )
    names = list(maps if among is None else among)
    if not names:
        raise PaddleCaitError("no attention was captured: run the model inside the capture_attention block")
    found = [name for name in names if maps.layouts[name].kind == "tokens"]
    if not found:
        raise PaddleCaitError(f"{', '.join(names)}: the class token alone asks, and it has no place: capture others")
    return found


def patch_distances(layout: TokenLayout) -> np.ndarray:
    """Pixels between the centres of each two patches, float64 [patches, patches]."""
    rows, columns = (np.arange(count) * step for count, step in zip(layout.grid, layout.stride))
    y, x = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
    return np.hypot(y[:, None] - y, x[:, None] - x)


class DistanceMeter:
    """Measures maps while a model runs, and keeps none of them. One meter serves any number of forwards.

        meter = DistanceMeter()
        with watch_attention(model, meter.see, names), paddle.no_grad():
            model(x)
        meter.take(names)  # float64 [B, layers, heads]

    A map costs three passes over it: rows are put together by the patch that asks, and one product with a table
    [T, 2, T] gives each row's sum and its sum weighted by distance. In float32, as precise as the model's own products.
    """

    def __init__(self) -> None:
        self._tables: dict[TokenLayout, Tensor] = {}
        self._sums: dict[str, tuple[TokenLayout, int, Tensor]] = {}

    def see(self, name: str, layout: TokenLayout, maps: Tensor) -> None:
        """``maps`` [B, heads, T, T] of one layer."""
        _check(name, maps.shape, layout)
        if layout not in self._tables:
            self._tables[layout] = paddle.to_tensor(_table(layout))
        with paddle.amp.auto_cast(enable=False):  # this may run inside a forward in half precision
            weights = maps if maps.dtype == paddle.float32 else maps.astype("float32")  # 2.6 would copy
            if not layout.rows_sum_to_one:
                weights = weights.abs()
            by_query = weights.flatten(0, 1).transpose([1, 0, 2])  # [T, B*heads, T]
            sums = paddle.matmul(self._tables[layout], by_query, transpose_y=True)  # [T, 2, B*heads]
        self._sums[name] = layout, maps.shape[1], sums

    def take(self, names: Sequence[str]) -> np.ndarray:
        """Distances of the last forward, float64 [B, layers, heads]. The layers' tokens must lie alike."""
        layouts, heads, sums = zip(*(self._sums.pop(name) for name in names))
        by_query = np.stack([array(one) for one in sums])[:, layouts[0].prefix :]  # [layers, patches, 2, B*heads]
        parts = by_query.reshape(*by_query.shape[:3], -1, heads[0]).transpose(2, 3, 0, 4, 1)
        return _mean_over_patches(parts[0], parts[1])


def _table(layout: TokenLayout) -> np.ndarray:
    """float32 [query, 2, key]: the distance, and 1; 0 where one of them is a prefix token."""
    prefix, distances = layout.prefix, patch_distances(layout)
    table = np.zeros([prefix + len(distances), 2, prefix + len(distances)], np.float32)
    table[prefix:, 0, prefix:] = distances
    table[prefix:, 1, prefix:] = 1.0
    return table


def _mean_over_patches(weighted: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Sums over keys [..., patches], weighted by distance and not -> [...]."""
    asks = total != 0
    distances = np.divide(weighted, total, out=np.zeros_like(weighted), where=asks)
    found: np.ndarray = distances.sum(-1) / np.maximum(asks.sum(-1), 1)
    return found


def _check(name: str, shape: Sequence[int], layout: TokenLayout) -> None:
    tokens = layout.prefix + math.prod(layout.grid)
    if len(shape) != 4 or list(shape[2:]) != [tokens, tokens]:
        raise PaddleCaitError(
            f"{name}: its map is {list(shape)}, expected [batch, heads, {tokens}, {tokens}], every token asking every "
            "token; the last layer of a folded model asks with the class token alone: use the model of create_model"
        )
