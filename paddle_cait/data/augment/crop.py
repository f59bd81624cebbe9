"""Which part of a photograph is shown, how large, and whether mirrored (torchvision's RandomResizedCrop and kin)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from paddle_cait.data.transforms import MAX_PIXELS
from paddle_cait.errors import DataError

Box = tuple[int, int, int, int]

_ATTEMPTS = 10


class RandomResizedCrop:
    """A part of random area and shape, resized to ``size`` x ``size``: ``PIL.Image -> PIL.Image``.

    ``scale``: bounds of the part's area over the image's. ``ratio``: bounds of its width over its height, drawn evenly
    in the logarithm. ``filters``: of Pillow, one is drawn.
    """

    def __init__(
        self,
        size: int,
        filters: Sequence[Image.Resampling],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size, self.filters = size, tuple(filters)
        self.scale, self.ratio = (float(scale[0]), float(scale[1])), (float(ratio[0]), float(ratio[1]))

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        box = self.box(image.size, rng)
        part = image if box == (0, 0, *image.size) else image.crop(box)
        chosen = self.filters[int(rng.integers(len(self.filters)))] if len(self.filters) > 1 else self.filters[0]
        return part if part.size == (self.size, self.size) else part.resize((self.size, self.size), chosen)

    def box(self, size: tuple[int, int], rng: np.random.Generator) -> Box:
        """(left, top, right, bottom) in an image of ``size`` (width, height)."""
        width, height = size
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_ATTEMPTS):
            area = width * height * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
                return left, top, left + w, top + h
        return self._middle(width, height)

    def _middle(self, width: int, height: int) -> Box:
        """The largest part in the middle whose shape is allowed, for images so narrow that no attempt fitted."""
        w, h = width, height
        if width / height < self.ratio[0]:
            h = max(1, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            w = max(1, round(height * self.ratio[1]))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


class SimpleRandomCrop:
    """DeiT III's crop: the short side to ``size``, four pixels mirrored around it, then ``size`` x ``size`` anywhere.

    Almost all of the object stays visible, for training sets that are large or already cut to their object.
    """

    PADDING = 4

    def __init__(self, size: int, resample: Image.Resampling) -> None:
        self.size, self.resample = size, resample

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = image.size
        short, long = min(image.size), max(image.size)
        other = int(self.size * long / short)
        if self.size * other > MAX_PIXELS:
            raise DataError(f"an image of {width} x {height} pixels is too elongated: resized it would be {other} long")
        small = (self.size, other) if width <= height else (other, self.size)
        if image.size != small:
            image = image.resize(small, self.resample)
        pad = self.PADDING
        pixels = np.pad(np.asarray(image), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        height, width = pixels.shape[:2]
        top, left = int(rng.integers(0, height - self.size + 1)), int(rng.integers(0, width - self.size + 1))
        return Image.fromarray(pixels[top : top + self.size, left : left + self.size])


class Flip:
    """Mirrored left to right with probability ``prob``."""

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return ImageOps.mirror(image) if rng.random() < self.prob else image
