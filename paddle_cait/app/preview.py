"""The picture on the page: maps over the photograph, drawn in milliseconds, and where on it a visitor clicked."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paddle_cait.app.choice import Spot
from paddle_cait.explain.overlay import overlay

GAP = 6  # pixels between tiles
WIDEST = 1200  # pixels of all tiles together
_LEAST = 600  # pixels of a single photograph's longer side: small ones are enlarged


@dataclass(frozen=True)
class Preview:
    """``pixels`` uint8 [H, W, 3]; ``tile``: (height, width) of one photograph in it, None for a diagram."""

    pixels: np.ndarray
    tile: tuple[int, int] | None = None

    def spot(self, x: float, y: float) -> Spot | None:
        """Where on the photograph the point (x, y) of the picture is; None in a diagram or between tiles."""
        if self.tile is None:
            return None
        height, width = self.tile
        down, across = y % (height + GAP) / height, x % (width + GAP) / width
        return (down, across) if 0 <= down < 1 and 0 <= across < 1 else None


def draw(
    photo: np.ndarray,
    heats: Sequence[np.ndarray],
    names: Sequence[str] = (),
    *,
    alpha: float,
    mark: tuple[float, float, float, float] | None = None,
) -> Preview:
    """The maps ``heats`` [gh, gw] over ``photo`` [H, W, 3], beside and below each other.

    ``names``: digits, written in the corners if there are several maps; ``mark``: (top, left, bottom, right) of a
    frame, in parts of the photograph.
    """
    columns = _columns(len(heats), photo.shape[0] / photo.shape[1])
    photo = _fitting(photo, columns)
    height, width = photo.shape[:2]
    rows = math.ceil(len(heats) / columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, heat in enumerate(heats):
        x, y = number % columns * (width + GAP), number // columns * (height + GAP)
        sheet.paste(Image.fromarray(overlay(photo, heat, alpha=alpha)), (x, y))
        if names and len(heats) > 1:
            _label(pen, (x + 5, y + 3), names[number])
        if mark is not None:
            top, left, bottom, right = (part * side for part, side in zip(mark, (height, width, height, width)))
            pen.rectangle((x + left, y + top, x + right, y + bottom), outline="black", width=4)
            pen.rectangle((x + left, y + top, x + right, y + bottom), outline="white", width=2)
    return Preview(np.asarray(sheet), (height, width))


def of_figure(figure: Any, width: int = 1000) -> Preview:
    """A matplotlib figure, so many pixels wide."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(width / figure.get_figwidth())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Preview(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _fitting(photo: np.ndarray, columns: int) -> np.ndarray:
    """The photograph at a tile's size."""
    height, width = photo.shape[:2]
    scale = min((WIDEST - GAP * (columns - 1)) // columns / width, 1.0)
    if columns == 1:
        scale = max(scale, _LEAST / max(height, width))
    if scale == 1:
        return photo
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))


def _columns(count: int, ratio: float) -> int:
    """So many that the sheet of ``count`` photographs, ``ratio`` times as high as wide, is nearly 2:1 and full."""

    def misfit(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(2 * rows * ratio / columns)) + (rows * columns - count) / count

    return min(range(1, count + 1), key=misfit)


def _label(pen: Any, at: tuple[int, int], text: str) -> None:
    for shift in (1, 0):  # a shadow first
        pen.text((at[0] + shift, at[1] + shift), text, font=_font(), fill="black" if shift else "white")


@functools.lru_cache(maxsize=1)
def _font() -> Any:
    try:
        return ImageFont.load_default(size=20)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()
