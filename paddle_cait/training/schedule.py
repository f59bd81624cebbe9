"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from dataclasses import dataclass

from paddle_cait.errors import ConfigError


@dataclass(frozen=True)
class Cosine:
    """From ``warmup_lr`` in even steps to ``lr`` over ``warmup`` updates, then by half a cosine down to ``min_lr``.

    ``total``: updates of the whole run. ``hold``: the rate changes every so many updates only (1, or the updates of an
    epoch, as DeiT's recipes have it).
    """

    lr: float
    total: int
    warmup: int = 0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    hold: int = 1

    def __post_init__(self) -> None:
        if self.total < 1 or self.hold < 1 or not 0 <= self.warmup <= self.total:
            raise ConfigError(f"a schedule of {self.total} updates with a warm-up of {self.warmup} cannot be")

    def __call__(self, update: int) -> float:
        """Of the update with this number, counted from 0."""
        step = update // self.hold * self.hold
        if step < self.warmup:
            return self.warmup_lr + (self.lr - self.warmup_lr) * step / self.warmup
        part = step / self.total  # as timm counts: the cosine began with the warm-up
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * min(1.0, part))) / 2
