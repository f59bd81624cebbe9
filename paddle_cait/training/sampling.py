"""Which image is shown when, as a function of seed, epoch and place: nothing to save, nothing to restore."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddle_cait.errors import ConfigError

_ROUND = 256  # DeiT's repeated augmentation shows whole multiples of this many images


@dataclass(frozen=True)
class Plan:
    """How the images of an epoch are divided among updates, processes and steps.

    ``images``: of the training set. ``batch_size``: of one process and step; an update takes ``accumulate`` steps.
    ``repeats``: with repeated augmentation an epoch shows fewer images, each so many times (Hoffer et al. 2020).
    What is left over after the last whole update is not shown in that epoch; the next one shuffles anew.
    """

    images: int
    batch_size: int
    seed: int = 0
    world: int = 1
    accumulate: int = 1
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.updates < 1:
            raise ConfigError(
                f"{self.images} training images do not fill one update of {self.global_batch} (batch_size "
                f"{self.batch_size} x {self.world} processes x grad_accum_steps {self.accumulate}): use a smaller batch"
            )

    @property
    def global_batch(self) -> int:
        """Images of one update."""
        return self.batch_size * self.world * self.accumulate

    @property
    def updates(self) -> int:
        """Of one epoch."""
        return self._shown // self.global_batch

    @property
    def _shown(self) -> int:
        return self.images // _ROUND * _ROUND if self.repeats > 1 and self.images >= _ROUND else self.images

    def order(self, epoch: int) -> np.ndarray:
        """int64 [shown]: the image at each place of the epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        return np.repeat(order, self.repeats)[: self._shown]

    def batches(self, rank: int, first: int = 0) -> list[list[int]]:
        """The places that process ``rank`` looks at, a list for each step from update ``first`` on.

        A step's places are dealt out in turn, so that the copies of a repeated image come to different processes, and
        the images of an update are the same for any number of processes.
        """
        step = self.batch_size * self.world
        starts = range(first * self.global_batch, self.updates * self.global_batch, step)
        return [list(range(start + rank, start + step, self.world)) for start in starts]


def generator(seed: int, epoch: int, place: int, *more: int) -> np.random.Generator:
    """For whatever is random about one place of one epoch."""
    return np.random.default_rng([seed, epoch, place, *more])
