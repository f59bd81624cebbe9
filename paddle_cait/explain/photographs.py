"""A photograph as the model sees it and as the picture shows it.

The model sees what it is evaluated with: a centred square at its own size. Or the whole photograph, whose sides are
rounded to whole patches (the model is then built for that size). The picture shows the same part of the photograph,
from the original's pixels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from paddle_cait.data.transforms import PIL_FILTERS, EvalTransform, center_box, normalise, resized_size
from paddle_cait.errors import DataError
from paddle_cait.layers.token_layout import Pair

if TYPE_CHECKING:
    from paddle_cait.presets import Preprocess

FITS = ("crop", "whole")
SHOWN = 720  # pixels of the shown photograph's longer side, unless the model sees more
MAX_SIDE = 4096  # of a model's input: beyond, a whole photograph is no photograph


@dataclass(frozen=True)
class View:
    """``pixels`` float32 [3, H, W] for the model; ``photo`` uint8 [h, w, 3], the same part to be shown."""

    pixels: np.ndarray
    photo: np.ndarray


def view(image: Image.Image, preprocess: Preprocess, size: Pair, fit: str = "crop") -> View:
    """``size``: the model's input, height and width; a square for ``crop``, :func:`whole_size` for ``whole``."""
    if fit == "crop":
        seen = EvalTransform(dataclasses.replace(preprocess, img_size=size[0])).pixels(image)
    else:
        seen = np.asarray(image.resize((size[1], size[0]), PIL_FILTERS[preprocess.interpolation]))
    return View(normalise(seen, preprocess), _shown(image, seen_part(image.size, preprocess, size, fit), seen))


def seen_part(image: Pair, preprocess: Preprocess, size: Pair, fit: str) -> tuple[float, float, float, float]:
    """The part of a photograph that the model sees: (left, top, right, bottom) in its pixels, of which it has ``image``
    = (width, height)."""
    if fit == "whole" or preprocess.crop_mode == "squash":
        return 0.0, 0.0, float(image[0]), float(image[1])
    resized = resized_size(image, dataclasses.replace(preprocess, img_size=size[0]))
    left, top, right, bottom = center_box(resized, size[0])
    across, down = image[0] / resized[0], image[1] / resized[1]
    return left * across, top * down, right * across, bottom * down


def whole_size(image: Pair, short: int, step: Pair) -> Pair:
    """(height, width) at which a model sees a whole photograph of ``image`` = (width, height) pixels: its short side
    near ``short``, both sides multiples of ``step``, the aspect kept as nearly as that allows."""
    scale = short / min(image)
    size = tuple(max(round(side * scale / by), 1) * by for side, by in zip((image[1], image[0]), step))
    if max(size) > MAX_SIDE:
        raise DataError(
            f"an image of {image[0]} x {image[1]} pixels would be {size[1]} x {size[0]}: it is too elongated"
        )
    return size[0], size[1]


def _shown(image: Image.Image, part: tuple[float, float, float, float], seen: np.ndarray) -> np.ndarray:
    """That part of the original, at its own resolution up to `SHOWN`, and no smaller than the model saw it."""
    left, top, right, bottom = part
    longest = max(right - left, bottom - top)
    scale = max(min(longest, SHOWN), *seen.shape[:2]) / longest
    size = (max(round(scale * (right - left)), 1), max(round(scale * (bottom - top)), 1))
    if abs(size[0] - size[1]) == 1:  # a square, before its corners were rounded
        size = (max(size), max(size))
    inside = (left, top, min(right, image.size[0]), min(bottom, image.size[1]))
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS, box=inside))


def framed(photo: np.ndarray, patch: Pair, grid: tuple[int, ...]) -> np.ndarray:
    """The photograph with a frame around the ``patch`` (row, column) of its ``grid``."""
    drawn = Image.fromarray(photo)
    height, width = photo.shape[0] / grid[0], photo.shape[1] / grid[1]
    box = (patch[1] * width, patch[0] * height, (patch[1] + 1) * width, (patch[0] + 1) * height)
    thick = max(2, max(photo.shape) // 150)
    outer = (box[0] - thick, box[1] - thick, box[2] + thick, box[3] + thick)
    ImageDraw.Draw(drawn).rectangle(outer, outline=(0, 0, 0), width=2 * thick)  # black and white show anywhere
    ImageDraw.Draw(drawn).rectangle(outer, outline=(255, 255, 255), width=thick)
    return np.asarray(drawn)
