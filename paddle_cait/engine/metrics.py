"""One row an image, from which every count is an integer sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddle_cait.errors import PaddleCaitError

TOP = 5


@dataclass(frozen=True)
class Rows:
    """Predictions of n images. ``index`` is the image's place in the list; ``top`` [n, 5] are classes, best first, -1
    where the model has fewer than five; ``probability`` is the best class's; ``loss`` is the cross-entropy in nats."""

    index: np.ndarray
    label: np.ndarray
    top: np.ndarray
    probability: np.ndarray
    loss: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def top1_correct(self) -> int:
        return int((self.top[:, 0] == self.label).sum())

    @property
    def top5_correct(self) -> int:
        return int((self.top == self.label[:, None]).any(axis=1).sum())

    @classmethod
    def empty(cls) -> Rows:
        whole, real = np.zeros(0, np.int64), np.zeros(0, np.float64)
        return cls(whole, whole, np.zeros((0, TOP), np.int64), real, real)

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """All rows in the order of the list, whatever order they were computed in."""
        parts = [cls.empty(), *parts]
        order = np.argsort(np.concatenate([p.index for p in parts]), kind="stable")
        return cls(*(np.concatenate([getattr(p, name) for p in parts])[order] for name in cls.__dataclass_fields__))


def score(logits: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Rows:
    """Rows from logits [B, classes]. Of equal logits the lower class wins. Raises on a logit that is not finite."""
    logits = np.asarray(logits, np.float64)
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        raise PaddleCaitError(
            f"image {int(indices[broken][0])} of the list gives logits that are not finite: the weights are damaged, "
            "or the precision is too low for this model"
        )
    if labels.size and (labels.min() < 0 or labels.max() >= logits.shape[1]):
        raise PaddleCaitError(
            f"label {int(labels.max())} in the list, expected 0..{logits.shape[1] - 1}: the model's classes"
        )
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    top = np.full((len(logits), TOP), -1, np.int64)
    top[:, : best.shape[1]] = best
    rows = np.arange(len(logits))
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    loss = log_sum - shifted[rows, labels]
    return Rows(indices.astype(np.int64), labels.astype(np.int64), top, np.exp(-log_sum), loss)
