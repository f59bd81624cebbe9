"""Figures of a model rather than of a photograph: attention distances, filters, similarity of position embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.overlay import Limits, checked_limits, color_table, value_range
from paddle_cait.explain.page import (
    COLUMN,
    GAP,
    MARGIN,
    PICTURE_DPI,
    SMALL,
    TEXT_WIDTH,
    TITLE,
    Page,
    bar_ends,
    bar_height,
    pitch,
    text_width,
    wrapped,
)

_COLORS = "viridis"
_MOST_TILES = 16  # positions along a side that positions_figure shows


def distance_figure(
    distance: np.ndarray,
    *,
    caption: str,
    names: Sequence[str] | None = None,
    spread: np.ndarray | None = None,
) -> Any:
    """Mean attention distance by depth, one dot a head (Dosovitskiy et al. 2021, figure 7, right).

    Args:
        distance: [layers, heads], pixels; NaN where a layer has no such head.
        names: of the layers, written upright below; without them layers are numbered from 0.
        spread: [layers, heads], the length of the bar on either side of a dot.
    """
    distance = np.asarray(distance, np.float64)
    finite = np.isfinite(distance)
    if distance.ndim != 2 or not finite.any():
        raise PaddleCaitError(f"distance: {list(distance.shape)}, expected finite numbers [layers, heads]")
    distance = np.where(finite, distance, np.nan)
    layers, heads = distance.shape
    around = np.zeros_like(distance) if spread is None else np.nan_to_num(np.asarray(spread, np.float64))
    if around.shape != distance.shape:
        raise PaddleCaitError(f"spread: {list(around.shape)}, expected {[layers, heads]} like the distance")
    if names is not None and len(names) != layers:
        raise PaddleCaitError(f"names: {len(names)} of layers, expected {layers}")
    note = "Dots: one a head, in each layer from the shortest distance to the longest; line: their mean."
    if spread is not None:
        note += " Bars: one standard deviation over the images to either side."

    width, left, height = COLUMN if distance.size <= 160 else TEXT_WIDTH, 0.42, 2.0
    across, bottom = width - left - MARGIN, MARGIN + height
    room = pitch(SMALL) if names is None else max(text_width(name, SMALL) for name in names)
    page = Page(width, bottom + 0.04 + room + pitch(TITLE, 1.4), f"{caption}\n{note}")
    axes = page.axes(left, MARGIN, across, height)
    least, most = float(np.nanmin(distance - around)), float(np.nanmax(distance + around))
    marks = _marks(min(least, 0.0), most if most > 0.0 else 1.0)
    low, high = min(marks[0], least), max(marks[-1], most)
    low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
    axes.set(xlim=(-0.6, layers - 0.4), ylim=(low, high))
    _draw_heads(axes, distance, around if spread is not None else None)

    for mark in marks:
        y = bottom - height * (mark - low) / (high - low)
        axes.axhline(mark, color="0.6" if mark == 0 else "0.9", linewidth=0.6, zorder=0)
        page.lines(left - 0.03, y - pitch(SMALL) / 2, [f"{mark:g}"], SMALL, "right")
    for layer in range(0, layers, math.ceil(layers / (24 if width == COLUMN else 48))):
        x = left + across * (layer + 0.6) / (layers + 0.2)
        if names is None:
            page.lines(x, bottom + 0.02, [str(layer)], SMALL, "center")
        else:
            page.upright(x, bottom + 0.03, names[layer], SMALL, "top")
    what = "layer" if names is not None else "layer, 0 is the first"
    page.lines(left + across / 2, bottom + 0.04 + room, [what], TITLE, "center")
    page.upright(MARGIN + pitch(TITLE) / 2, MARGIN + height / 2, "mean attention distance, pixels", TITLE)
    return page.figure


def _draw_heads(axes: Any, distance: np.ndarray, around: np.ndarray | None) -> None:
    """Dots side by side within a layer, from the shortest distance to the longest, their bars and the layers' means."""
    layers, heads = distance.shape
    order = np.argsort(distance, axis=1)  # NaN last
    shown = np.take_along_axis(distance, order, 1)
    x = np.arange(layers)[:, None] + (np.linspace(-0.3, 0.3, heads) if heads > 1 else np.zeros(1))
    colors = color_table(_COLORS)[np.linspace(0, 220, heads).astype(int)] / 255  # not to the palest
    some = np.flatnonzero(np.isfinite(shown).any(1))
    axes.plot(some, np.nanmean(shown[some], 1), color="0.7", linewidth=0.8, zorder=1)
    for head, color in enumerate(colors):
        if around is not None:
            bar = np.take_along_axis(around, order, 1)[:, head]
            axes.vlines(x[:, head], shown[:, head] - bar, shown[:, head] + bar, color=color, linewidth=0.5, zorder=2)
        axes.scatter(x[:, head], shown[:, head], s=7, color=color, linewidths=0, zorder=3)


def _marks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``, four to eight of them."""
    from matplotlib.ticker import MaxNLocator

    return [float(mark) for mark in MaxNLocator(6).tick_values(low, high) if low <= mark <= high]


def filters_figure(filters: np.ndarray, *, caption: str, columns: int | None = None) -> Any:
    """The filters of a patch embedding as pictures in a grid, each scaled by itself to 0..1.

    ``filters``: [n, p, p, 3]; ``columns``: how many side by side (by default a number that divides n).
    """
    filters = np.asarray(filters, np.float64)
    if filters.ndim != 4 or filters.shape[3] != 3 or filters.size == 0 or not np.isfinite(filters).all():
        raise PaddleCaitError(f"filters: {list(filters.shape)}, expected finite numbers [filters, height, width, 3]")
    if columns is None:
        root = math.ceil(math.sqrt(len(filters)))
        columns = next((number for number in range(root, 2 * root) if len(filters) % number == 0), root)
    if columns < 1:
        raise PaddleCaitError(f"columns: {columns}, expected 1 or more")
    low, high = filters.min((1, 2, 3), keepdims=True), filters.max((1, 2, 3), keepdims=True)
    scaled = np.where(high > low, (filters - low) / np.where(high > low, high - low, 1.0), 0.5)

    width = COLUMN if columns <= 16 else TEXT_WIDTH
    across = min(width - 2 * MARGIN, 0.6 * columns)
    pixels = _mosaic(np.rint(255 * scaled).astype(np.uint8), columns, across)
    height = across * pixels.shape[0] / pixels.shape[1]
    page = Page(width, MARGIN + height + GAP, caption)
    page.image((width - across) / 2, MARGIN, across, height, pixels)
    return page.figure


def positions_figure(similarity: np.ndarray, *, caption: str, label: str, limits: Limits = None) -> Any:
    """How similar each position's embedding is to all others, in a grid of grids (Dosovitskiy et al. 2021, figure 7).

    Args:
        similarity: [gh, gw, gh, gw]. A grid of more than 16 positions a side shows every second, third ... of them,
            each with all its similarities, and says so below the caption.
        label: what the colours mean, below the colour bar.
        limits: of the colours; None is the smallest and the largest number.
    """
    similarity = np.asarray(similarity, np.float64)
    if similarity.ndim != 4 or similarity.shape[:2] != similarity.shape[2:] or similarity.size == 0:
        raise PaddleCaitError(f"similarity: {list(similarity.shape)}, expected [rows, columns, rows, columns]")
    low, high = value_range(similarity) if limits is None else checked_limits(limits)
    rows, columns = similarity.shape[:2]
    step = math.ceil(max(rows, columns) / _MOST_TILES)
    if step > 1:
        caption += f"\nShown: one position in {step} along each side of the {rows} x {columns}."
    chosen = similarity[::step, ::step]
    levels = np.clip((np.nan_to_num(chosen, nan=low) - low) / (high - low or 1.0), 0.0, 1.0)
    tiles = color_table(_COLORS)[np.rint(255 * levels).astype(np.uint8)]
    tiles[~np.isfinite(chosen)] = 255

    left, bar = 0.34, 1.8
    across = COLUMN - left - MARGIN
    pixels = _mosaic(tiles.reshape(-1, rows, columns, 3), tiles.shape[1], across)
    height = across * pixels.shape[0] / pixels.shape[1]
    bottom, meaning = MARGIN + height, wrapped(label, COLUMN - 2 * MARGIN, TITLE)
    under = bottom + pitch(SMALL) + pitch(TITLE, 1.5)
    page = Page(COLUMN, under + bar_height(meaning), caption)
    page.image(left, MARGIN, across, height, pixels)
    for number in range(tiles.shape[1]):
        middle = left + across * (number + 0.5) / tiles.shape[1]
        page.lines(middle, bottom + 0.02, [str(number * step)], SMALL, "center")
    for number in range(tiles.shape[0]):
        middle = MARGIN + height * (number + 0.5) / tiles.shape[0]
        page.lines(left - 0.03, middle - pitch(SMALL) / 2, [str(number * step)], SMALL, "right")
    centre = left + across / 2
    page.lines(centre, bottom + 0.02 + pitch(SMALL), ["column of the patch, 0 is the first"], TITLE, "center")
    page.upright(MARGIN + pitch(TITLE) / 2, MARGIN + height / 2, "row of the patch", TITLE)
    page.color_bar(centre - bar / 2, under, bar, _COLORS, bar_ends((low, high)), meaning)
    return page.figure


def _mosaic(tiles: np.ndarray, columns: int, width: float) -> np.ndarray:
    """uint8 [n, h, w, 3] as one picture ``width`` inches wide, row by row on white, a sample being several pixels."""
    n, h, w, _ = tiles.shape
    times = max(round(width * PICTURE_DPI / columns / w), 1)
    tiles = tiles.repeat(times, 1).repeat(times, 2)
    gap = max(round(0.08 * w * times), 1)
    rows = math.ceil(n / columns)
    sheet = np.full((rows * columns, h * times + gap, w * times + gap, 3), 255, np.uint8)
    sheet[:n, :-gap, :-gap] = tiles
    sheet = sheet.reshape(rows, columns, *sheet.shape[1:]).swapaxes(1, 2)
    return sheet.reshape(rows * sheet.shape[1], -1, 3)[:-gap, :-gap]
