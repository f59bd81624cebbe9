"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) as timm combines them: image i meets image B-1-i.

What is mixed is drawn first, in numbers (:meth:`Mixup.draw`), and applied where the images are (:meth:`Mixing.apply`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor

from paddle_cait.errors import ConfigError

MODES = ("batch", "pair", "elem")
_WHOLE = (0, 0, 0, 0)


@dataclass(frozen=True)
class Mixing:
    """``share`` [B]: of each image and label that stays its own. ``boxes``: (top, bottom, left, right) that show the
    partner's pixels, or None for images that are blended."""

    share: np.ndarray
    boxes: list[tuple[int, int, int, int] | None]

    def apply(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        own = self._own(images.shape[2:])
        if (own == 1).all():
            return images
        mask = paddle.to_tensor(own, dtype=images.dtype, place=images.place)
        return images * mask + images.flip(0) * (1 - mask)

    def _own(self, size: Sequence[int]) -> np.ndarray:
        """How much of each pixel stays: [B, 1, H, W], or [B, 1, 1, 1] where no box is."""
        shape = (len(self.share), 1, *size) if any(self.boxes) else (len(self.share), 1, 1, 1)
        own = np.ones(shape, np.float32)
        for i, box in enumerate(self.boxes):
            if box is None:
                own[i] = self.share[i]
            else:
                own[i, :, box[0] : box[1], box[2] : box[3]] = 0.0
        return own

    def targets(self, targets: np.ndarray) -> np.ndarray:
        """[B, classes] -> the same, mixed as the images."""
        share = self.share[:, None]
        return targets * share + targets[::-1] * (1 - share)


@dataclass(frozen=True)
class Mixup:
    """``mixup``, ``cutmix``: alpha of the Beta distribution that shares are drawn from; 0 is off. ``prob``: that
    anything is mixed at all. Where both are on, CutMix is chosen with probability ``switch_prob``. ``mode``: one draw
    for the ``batch``, for each ``pair``, or each image (``elem``). ``minmax``: bounds of the box's sides over the
    image's, in place of drawing its area. Raises :class:`ConfigError` for other words and numbers."""

    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5
    mode: str = "batch"
    minmax: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"mixup_mode is {self.mode!r}, expected {', '.join(MODES)}")
        if min(self.mixup, self.cutmix) < 0 or not 0 <= self.prob <= 1 or not 0 <= self.switch_prob <= 1:
            raise ConfigError(
                f"mixup is {self.mixup} and cutmix {self.cutmix}, expected 0 or more; mixup_prob {self.prob} and "
                f"mixup_switch_prob {self.switch_prob}, expected 0..1"
            )

    @property
    def on(self) -> bool:
        """Whether anything is ever mixed."""
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0 or self.minmax is not None)

    def draw(self, count: int, size: Sequence[int], rng: np.random.Generator) -> Mixing:
        """For ``count`` images of ``size`` (H, W)."""
        number = {"batch": 1, "pair": count // 2, "elem": count}[self.mode]
        drawn = [self._draw_one(size, rng) for _ in range(number)]
        if self.mode == "batch":
            drawn *= count
        elif self.mode == "pair":
            drawn += [(1.0, _WHOLE)] * (count % 2) + drawn[::-1]  # the one in the middle has no partner but itself
        return Mixing(np.array([share for share, _ in drawn], np.float32), [box for _, box in drawn])

    def _draw_one(
        self, size: Sequence[int], rng: np.random.Generator
    ) -> tuple[float, tuple[int, int, int, int] | None]:
        if rng.random() >= self.prob:
            return 1.0, _WHOLE
        cutmix = 1.0 if self.minmax else self.cutmix
        if cutmix and (not self.mixup or rng.random() < self.switch_prob):
            box = self._box(size, float(rng.beta(cutmix, cutmix)), rng)
            return 1.0 - (box[1] - box[0]) * (box[3] - box[2]) / (size[0] * size[1]), box
        return float(rng.beta(self.mixup, self.mixup)), None

    def _box(self, size: Sequence[int], share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Cut at the image's border, so that the share is corrected afterwards."""
        found: list[int] = []
        for side in size:
            if self.minmax:
                length = int(rng.integers(int(side * self.minmax[0]), int(side * self.minmax[1])))
                start = int(rng.integers(0, side - length + 1))
                found += [start, start + length]
            else:
                length, middle = int(side * math.sqrt(1 - share)), int(rng.integers(side))
                found += [max(0, middle - length // 2), min(side, middle + (length + 1) // 2)]
        return found[0], found[1], found[2], found[3]
