"""A map of numbers laid over a photograph: what the figures, the videos and the app show. NumPy and Pillow alone.

matplotlib gives the colours only, one table of 256 for each colormap, read once.

Shapes: photo uint8 [H, W, 3], values [gh, gw], tables [256, ...].
"""

from __future__ import annotations

import functools
import math
from typing import Optional

import numpy as np
from PIL import Image

from paddle_cait.errors import PaddleCaitError

Limits = Optional[tuple[float, float]]

# Of the perceptually uniform colormaps, inferno leaves most of the photograph: its low end is black, which dims what
# is cold and changes no hue. viridis and turbo tint it; magma's high end is pale on pale photographs.
COLORMAP = "inferno"
ALPHA = 0.6
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_ROUNDING = 1e-6  # of the larger limit: less is float32's noise in a map that is constant


def overlay(
    photo: np.ndarray,
    values: np.ndarray,
    *,
    cmap: str = COLORMAP,
    alpha: float = ALPHA,
    limits: Limits = None,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """The photograph with the map in colours over it, uint8 [H, W, 3].

    Args:
        photo: uint8 [H, W, 3].
        values: [gh, gw], spread over the whole photograph. Where they are not finite the photograph stays bare, and
            their neighbours are resized as if there were nothing.
        cmap: a matplotlib colormap.
        alpha: opacity of the colours in the middle of the range, 0 to 1. What is hot is more opaque, what is cold
            less (0.45 to 0.75 at 0.6), so that the hot places stand out and the photograph stays recognisable.
        limits: the values of the first and the last colour; None is the smallest and the largest finite value. A map
            that is constant, up to the rounding of float32, takes the first colour.
        interpolation: ``bilinear``, ``bicubic`` (may go beyond the values), or ``nearest``, which shows the patches.

    Raises :class:`PaddleCaitError` for other shapes and words than these, and where matplotlib is not installed.
    """
    photo, values = checked_photo(photo), checked_map(values)
    if interpolation not in INTERPOLATIONS:
        raise PaddleCaitError(f"interpolation {interpolation!r}: expected one of {', '.join(INTERPOLATIONS)}")
    low, high = value_range(values) if limits is None else checked_limits(limits)
    level, shown = _levels(values, low, high, photo.shape[:2], INTERPOLATIONS[interpolation])
    colours = Image.fromarray(level)
    colours.putpalette(color_table(cmap).tobytes())
    mask = _opacity(float(alpha))[level]
    if shown is not None:
        mask[~shown] = 0
    return np.array(Image.composite(colours.convert("RGB"), Image.fromarray(photo), Image.fromarray(mask)))


def value_range(*maps: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest finite value of all maps; (0, 0) if there is none."""
    finite = [values[np.isfinite(values)] for values in maps]
    some = [values for values in finite if values.size]
    if not some:
        return 0.0, 0.0
    return float(min(values.min() for values in some)), float(max(values.max() for values in some))


@functools.lru_cache(maxsize=32)
def color_table(name: str) -> np.ndarray:
    """The 256 colours of a matplotlib colormap, uint8 [256, 3], read-only."""
    try:
        from matplotlib import colormaps
    except ImportError as error:
        raise no_matplotlib() from error
    if name not in colormaps:
        raise PaddleCaitError(f"colormap {name!r}: matplotlib has none of this name, expected e.g. {COLORMAP}, viridis")
    table = colormaps[name](np.linspace(0.0, 1.0, 256), bytes=True)[:, :3].copy()
    table.setflags(write=False)
    return table


def no_matplotlib() -> PaddleCaitError:
    """The one line for a missing matplotlib."""
    return PaddleCaitError('matplotlib is not installed: pip install "paddle_cait[explain]"')


def checked_photo(photo: np.ndarray) -> np.ndarray:
    """The photograph, if it is one."""
    photo = np.asarray(photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise PaddleCaitError(f"photograph: {photo.dtype} {list(photo.shape)}, expected uint8 [height, width, 3]")
    return photo


def checked_map(values: np.ndarray) -> np.ndarray:
    """The map in float64, if it is one."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.size == 0:
        raise PaddleCaitError(f"map: {list(values.shape)}, expected [rows, columns] of patches")
    return values


def checked_limits(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = (float(limit) for limit in limits)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise PaddleCaitError(f"limits ({low:g}, {high:g}): expected two finite numbers, the smaller first")
    return low, high


def _levels(
    values: np.ndarray, low: float, high: float, shape: tuple[int, int], how: Image.Resampling
) -> tuple[np.ndarray, np.ndarray | None]:
    """Which of the 256 colours each pixel takes, and which pixels take one (None: all)."""
    finite = np.isfinite(values)
    known = np.where(finite, values, low)
    if high - low <= _ROUNDING * max(abs(low), abs(high)):
        scaled = (known > high).astype(np.float32)
    else:
        scaled = np.where(finite, (known - low) / (high - low), 0.0).astype(np.float32)
    level, shown = _resized(scaled, shape, how), None
    if not finite.all():
        # Each pixel is the mean of the patches around it that have a value.
        weight = finite.astype(np.float32)
        level = level / np.maximum(_resized(weight, shape, how), 1e-3)
        shown = _resized(weight, shape, Image.Resampling.NEAREST) > 0.5
    return (np.clip(level, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8), shown


def _resized(values: np.ndarray, shape: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((shape[1], shape[0]), how))


@functools.lru_cache(maxsize=32)
def _opacity(alpha: float) -> np.ndarray:
    """Opacity of each of the 256 colours, uint8 [256]: ``alpha`` in the middle, all 0 at 0 and all 255 at 1."""
    if not 0.0 <= alpha <= 1.0:
        raise PaddleCaitError(f"alpha {alpha:g}: expected 0 (the photograph alone) to 1 (the map alone)")
    ramp = alpha + 1.25 * alpha * (1.0 - alpha) * np.linspace(-0.5, 0.5, 256)
    return np.rint(255.0 * ramp).astype(np.uint8)
