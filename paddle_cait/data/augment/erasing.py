"""Random erasing (Zhong et al. 2020), as timm does it: on the normalised image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from paddle_cait.errors import ConfigError

MODES = ("pixel", "rand", "const")
_ATTEMPTS = 10


@dataclass(frozen=True)
class RandomErasing:
    """With probability ``prob`` a rectangle of float32 [C, H, W] is filled, in place: with N(0, 1) for each number
    (``pixel``), with one such colour (``rand``), or with 0, the mean colour (``const``).

    ``area``: bounds of the rectangle's area over the image's; ``aspect``: the least height over width, and its inverse
    the largest. ``count``: so many rectangles share the area.
    """

    prob: float = 0.25
    mode: str = "pixel"
    count: int = 1
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect: float = 0.3

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"remode is {self.mode!r}, expected {', '.join(MODES)}")
        if not 0 <= self.prob <= 1 or self.count < 1:
            raise ConfigError(f"reprob is {self.prob} and recount {self.count}, expected 0..1 and 1 or more")

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() < self.prob:
            for _ in range(self.count):
                self._erase(pixels, rng)
        return pixels

    def _erase(self, pixels: np.ndarray, rng: np.random.Generator) -> None:
        channels, height, width = pixels.shape
        bound = math.log(self.aspect)
        for _ in range(_ATTEMPTS):
            area = rng.uniform(*self.area) * height * width / self.count
            ratio = math.exp(rng.uniform(bound, -bound))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
                pixels[:, top : top + h, left : left + w] = self._fill((channels, h, w), rng)
                return

    def _fill(self, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray | float:
        if self.mode == "pixel":
            return rng.standard_normal(shape, np.float32)
        return rng.standard_normal((shape[0], 1, 1), np.float32) if self.mode == "rand" else 0.0
