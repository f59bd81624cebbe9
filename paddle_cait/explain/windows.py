"""GCViT's attention, window by window, put back where the windows lie on the image.

Hatamizadeh et al. 2023 (https://arxiv.org/abs/2206.09959): blocks alternate attention within windows with attention of
the same windows to the image's global query. In both, a window's weights sum to 1 for each query, whatever the windows
beside it hold: brightness compares within a window, not across its border.
"""

from __future__ import annotations

import numpy as np

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.capture import AttentionMaps
from paddle_cait.explain.tokens import one_layer
from paddle_cait.layers.token_layout import Pair, TokenLayout


def window_attention(maps: AttentionMaps, layer: str | int = -1, query: Pair | None = None) -> np.ndarray:
    """How much each place of the map is read within its window: float64 [B, heads, grid h, grid w].

    Args:
        maps: of :func:`capture_attention`, after a forward.
        layer: name or place among the captured layers.
        query: (row, column) within a window: what the query at this place reads, in each window; in a layer with a
            global query it is the same question everywhere. None is the mean over a window's queries, without padding.

    Raises :class:`PaddleCaitError` for families without windows, and for a place beyond the window.
    """
    name, values, layout = one_layer(maps, layer)
    if layout.kind != "windows":
        raise PaddleCaitError(f"{name}: {maps.model} has no windows, each token sees the whole image")
    rows, columns = layout.window
    if query is None:
        read = _mean_over_queries(values, layout)
    else:
        if not (0 <= query[0] < rows and 0 <= query[1] < columns):
            raise PaddleCaitError(
                f"query is {query[0]},{query[1]}, expected a place in the window, 0,0 to {rows - 1},{columns - 1}"
            )
        read = values[:, :, query[0] * columns + query[1]]
    heads, side = read.shape[1], layout.side
    read = read.reshape(-1, side, side, heads, rows, columns).transpose(0, 3, 1, 4, 2, 5)
    whole = read.reshape(-1, heads, side * rows, side * columns)
    return whole[:, :, : layout.grid[0], : layout.grid[1]]


def _mean_over_queries(values: np.ndarray, layout: TokenLayout) -> np.ndarray:
    """[B*M, H, T, T] -> [B*M, H, T]. Where windows reach beyond the map, its own tokens alone ask."""
    side, (rows, columns) = layout.side, layout.window
    there = np.zeros([side * rows, side * columns])
    there[: layout.grid[0], : layout.grid[1]] = 1.0
    if layout.shared:
        there[:] = 1.0  # a global query has no place that could lie beyond the map
    there = there.reshape(side, rows, side, columns).transpose(0, 2, 1, 3).reshape(side * side, -1)
    weights = there / np.maximum(there.sum(1, keepdims=True), 1.0)
    by_window = values.reshape(-1, side * side, *values.shape[1:])
    return np.einsum("mq,bmhqk->bmhk", weights, by_window).reshape(-1, values.shape[1], values.shape[-1])
