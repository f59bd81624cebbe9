"""Figures for papers: attention over photographs, attention distances, filters, position embeddings.

Each function returns a ``matplotlib.figure.Figure`` of a paper's width, 3.3 or 7 inches, and :func:`save_figure` writes
it. What stands in captions and labels is the caller's: the model, the weights' file, the layer.
"""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.charts import distance_figure, filters_figure, positions_figure
from paddle_cait.explain.overlay import (
    ALPHA,
    COLORMAP,
    checked_map,
    checked_photo,
    overlay,
    value_range,
)
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
    printable,
    text_width,
    wrapped,
)
from paddle_cait.files import PathLike, write_atomic
from paddle_cait.versions import __version__

__all__ = ["Panel", "distance_figure", "filters_figure", "heat_figure", "overlay", "positions_figure", "save_figure"]

FORMATS = ("png", "pdf", "svg")
_TALLEST, _SMALLEST = 8.0, 0.3  # inches: all rows of a grid together, a cell's width
_drawing = threading.Lock()  # fonttype and hashsalt can only be said globally, for the moment of drawing


@dataclass(frozen=True)
class Panel:
    """One cell of :func:`heat_figure`: a ``title``, and ``values`` [gh, gw] over the whole photograph.

    Where values are not finite there is nothing to show, and the photograph stays bare.
    """

    title: str
    values: np.ndarray


def heat_figure(
    photo: np.ndarray,
    rows: Sequence[Sequence[Panel]],
    *,
    caption: str,
    label: str,
    scale: str = "panel",
    cmap: str = COLORMAP,
    alpha: float = ALPHA,
    interpolation: str = "bilinear",
    show_photo: bool = True,
) -> Any:
    """Maps over a photograph in a grid, e.g. layers x heads: the bare photograph first, one colour bar below.

    Args:
        photo: uint8 [H, W, 3], any size and shape.
        rows: of panels; rows may differ in length. Titles may be empty. Where all titles of several rows are
            "ROW COLUMN" (``blocks.11.attn head 3``), each ROW is written once, beside its row, each COLUMN once, above.
        caption: a sentence or more, set below all, and the file's title.
        label: what the colours mean, below the colour bar.
        scale: ``panel``, each from its own smallest to its own largest value (written below it where there is room), or
            ``figure``, one range for all, with its numbers at the colour bar.
        cmap, alpha, interpolation: see :func:`paddle_cait.explain.overlay.overlay`.
        show_photo: begin with the bare photograph.

    Returns a ``matplotlib.figure.Figure``. Raises :class:`PaddleCaitError` for other shapes and words than these, and
    where matplotlib is not installed.
    """
    photo = checked_photo(photo)
    if scale not in ("panel", "figure"):
        raise PaddleCaitError(f"scale {scale!r}: expected panel or figure")
    if not rows or not all(rows):
        raise PaddleCaitError("heat_figure: expected at least one row, and one panel or more in each")
    maps = [[checked_map(panel.values) for panel in row] for row in rows]
    names, titles = _names([[panel.title for panel in row] for row in rows])
    grid = _Grid(max(map(len, rows)), photo.shape[0] / photo.shape[1], show_photo, names, len(rows))
    over = [[wrapped(title, grid.cell, TITLE) for title in row] for row in titles]
    by_panel = scale == "panel" and sum(map(len, rows)) > 1
    common = value_range(*itertools.chain(*maps))
    limits = [[value_range(values) if by_panel else common for values in row] for row in maps]
    below = [["{:.2g} to {:.2g}".format(*both) for both in row] for row in limits]
    ranges = by_panel and max(text_width(text, SMALL) for text in itertools.chain(*below)) <= grid.cell

    y, tops = MARGIN, []
    for lines in over:
        tops.append(y + pitch(TITLE, max(map(len, lines))) + 0.02)
        y = tops[-1] + grid.side + ranges * pitch(SMALL) + GAP
    meaning = wrapped(f"{label}, each panel scaled by itself" if by_panel else label, grid.width - 2 * MARGIN, TITLE)
    page = Page(grid.width, y + 0.02 + bar_height(meaning), caption)

    small = _scaled(photo, grid.cell, grid.side)
    if show_photo:
        _draw_cell(page, grid.start, tops[0], grid, small, ["input"] if any(map(any, over)) else [])
    for row, top in enumerate(tops):
        if names:
            grid.draw_name(page, row, top)
        for column, values in enumerate(maps[row]):
            both, under = limits[row][column], below[row][column] if ranges else ""
            heat = overlay(small, values, cmap=cmap, alpha=alpha, limits=both, interpolation=interpolation)
            _draw_cell(page, grid.x(column), top, grid, heat, over[row][column], under)
    bar = min(grid.content, 2.4)
    ends = ["smallest", "largest"] if by_panel else bar_ends(common)
    page.color_bar((grid.width - bar) / 2, y + 0.02, bar, cmap, ends, meaning)
    return page.figure


def save_figure(figure: Any, path: PathLike, dpi: float = 200) -> None:
    """Write a figure as .png, .pdf or .svg, as ``path`` ends, whole or not at all.

    The file's title is the caption, its creator this package and its version; it holds no date, so that the same
    figure gives the same bytes. Fonts are embedded in a PDF as TrueType. ``dpi``: of a .png and of pictures within,
    20 to 1200. Raises :class:`PaddleCaitError` for another suffix or ``dpi``.
    """
    import matplotlib

    suffix = Path(path).suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise PaddleCaitError(f"{path}: figures are written as .png, .pdf or .svg, expected one of these suffixes")
    if not 20 <= dpi <= 1200:
        raise PaddleCaitError(f"dpi: {dpi:g}, expected 20 to 1200")
    about: dict[str, Any] = {"Title": printable(figure.get_label()), "Creator": f"paddle_cait {__version__}"}
    about.update({"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[suffix])
    style: Any = {
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "image.composite_image": False,
        "svg.hashsalt": "paddle_cait",
        "savefig.bbox": None,
        "savefig.facecolor": "white",
        "savefig.transparent": False,
    }
    data = io.BytesIO()
    with _drawing, matplotlib.rc_context(style):
        figure.savefig(data, format=suffix, dpi=dpi, metadata=about)
    write_atomic(path, data.getvalue())


class _Grid:
    """Where the cells of a heat figure lie, in inches: the photograph's column, names of rows, columns of panels."""

    def __init__(self, columns: int, ratio: float, show_photo: bool, names: list[str], rows: int) -> None:
        count = columns + show_photo
        room = (COLUMN if count <= 2 else TEXT_WIDTH) - 2 * MARGIN - GAP * (count - 1)
        widest = max(_TALLEST / rows - 0.2, 0.0) / ratio

        def cell(band: float) -> float:
            return max(_SMALLEST, min((room - band) / count, widest))

        # Names read upwards where two lines are enough for the longest.
        band = pitch(SMALL, 2)
        self.beside = [wrapped(name, cell(band) * ratio, SMALL) for name in names]
        most = max(map(len, self.beside), default=0)
        self.upright = most <= 2
        self.band = pitch(SMALL, most) if self.upright else max(text_width(name, SMALL) for name in names) + GAP
        if not self.upright:
            self.beside = [[name] for name in names]
        self.cell = cell(self.band)
        self.side = self.cell * ratio
        self.content = self.band + count * (self.cell + GAP) - GAP
        self.width = max(self.content + 2 * MARGIN, COLUMN)
        self.start = (self.width - self.content) / 2
        self._first = self.start + self.band + show_photo * (self.cell + GAP)

    def x(self, column: int) -> float:
        """The left of a column of panels."""
        return self._first + column * (self.cell + GAP)

    def draw_name(self, page: Page, row: int, top: float) -> None:
        middle = top + self.side / 2
        for number, line in enumerate(self.beside[row]):
            if self.upright:
                page.upright(self._first - self.band + pitch(SMALL, number + 0.4), middle, line, SMALL)
            else:
                page.lines(self._first - GAP, middle - pitch(SMALL) / 2, [line], SMALL, "right")


def _draw_cell(
    page: Page, x: float, y: float, grid: _Grid, pixels: np.ndarray, title: Sequence[str], below: str = ""
) -> None:
    middle = x + grid.cell / 2
    page.image(x, y, grid.cell, grid.side, pixels)
    page.lines(middle, y - pitch(TITLE, len(title)) - 0.02, title, TITLE, "center")
    if below:
        page.lines(middle, y + grid.side + 0.01, [below], SMALL, "center")


def _names(titles: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Names of rows and what is left of the titles, where all are "ROW COLUMN": COLUMN, above the first row and above
    each that is longer than all before it."""
    longest = max(titles, key=len)
    for place in [place for place, letter in enumerate(longest[0]) if letter == " "] if len(titles) > 1 else []:
        columns = [title[place + 1 :] for title in longest]
        names = [row[0][: -len(columns[0]) - 1] for row in titles]
        expected = [[f"{name} {column}" for column in columns[: len(row)]] for name, row in zip(names, titles)]
        if titles == expected:
            lengths = [len(row) for row in titles]
            new = [length > max(lengths[:i], default=0) for i, length in enumerate(lengths)]
            left = [columns[:length] if above else [""] * length for above, length in zip(new, lengths)]
            return [name.rstrip(",") for name in names], left
    return [], titles


def _scaled(photo: np.ndarray, width: float, height: float) -> np.ndarray:
    """The photograph in the pixels that so many inches take."""
    size = max(round(width * PICTURE_DPI), 1), max(round(height * PICTURE_DPI), 1)
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
