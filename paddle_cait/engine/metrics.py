"""One row an image, from which every count is an integer sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddle_cait.errors import PaddleCaitError

TOP = 5


@dataclass(frozen=True)
class Rows:
    """Predictions of n images, an entry each. ``index`` is the image's place in the list; ``top`` [n, 5] are classes,
    best first, -1 where fewer than five are asked; ``probability`` is the best class's, among those asked; ``loss`` is
    the cross-entropy in nats. ``index``, ``label`` and ``top`` are int64, the others float64.

    ``label``: the right class; where several are right, the one that the model places best. So the best class is right
    if and only if it is the label, and one of the best five is right if and only if the label is among them.
    """

    index: np.ndarray
    label: np.ndarray
    top: np.ndarray
    probability: np.ndarray
    loss: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def top1_correct(self) -> int:
        """How many images have the label as their best class."""
        return int((self.top[:, 0] == self.label).sum())

    @property
    def top5_correct(self) -> int:
        """How many images have the label among their best five classes."""
        return int((self.top == self.label[:, None]).any(axis=1).sum())

    @classmethod
    def empty(cls) -> Rows:
        """Of no image."""
        whole, real = np.zeros(0, np.int64), np.zeros(0, np.float64)
        return cls(whole, whole, np.zeros((0, TOP), np.int64), real, real)

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """All rows in the order of the list, whatever order they were computed in."""
        parts = [cls.empty(), *parts]
        order = np.argsort(np.concatenate([p.index for p in parts]), kind="stable")
        return cls(*(np.concatenate([getattr(p, name) for p in parts])[order] for name in cls.__dataclass_fields__))


def score(
    logits: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
    right: Sequence[Sequence[int]] | None = None,
    classes: Sequence[int] | None = None,
) -> Rows:
    """Rows from logits [B, all classes]. Of equal logits the lower class wins. Raises on a logit that is not finite.

    Args:
        labels: the right class of each image [B].
        right: the right classes of each image, in place of ``labels``; their probabilities add up in the loss
            (for one label this is the cross-entropy).
        classes: the sorted classes that are asked; the others' logits are not looked at. None: all.
    """
    logits = np.asarray(logits, np.float64)
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        raise PaddleCaitError(
            f"image {int(indices[broken][0])} of the list gives logits that are not finite: the weights are damaged, "
            "or the precision is too low for this model"
        )
    named = labels if right is None else np.concatenate([np.asarray(some, np.int64) for some in right])
    if named.size and (named.min() < 0 or named.max() >= logits.shape[1]):
        raise PaddleCaitError(
            f"label {int(named.max())} in the list, expected 0..{logits.shape[1] - 1}: the model's classes"
        )
    if classes is not None and not np.isin(named, classes).all():
        raise PaddleCaitError(f"label {int(named[~np.isin(named, classes)][0])} is not among the classes asked")
    others: np.ndarray | float = 0.0
    if right is not None:
        labels, others = _best_right(logits, np.repeat(np.arange(len(right)), [len(some) for some in right]), named)
    rows = np.arange(len(logits))
    at_label = logits[rows, labels]
    asked = np.arange(logits.shape[1]) if classes is None else np.asarray(classes)
    logits = logits if classes is None else np.take(logits, asked, axis=1)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    top = np.full((len(logits), TOP), -1, np.int64)
    top[:, : best.shape[1]] = asked[best]
    highest = logits.max(axis=1)
    log_sum = np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    loss = log_sum - (at_label - highest) - others
    return Rows(indices.astype(np.int64), labels.astype(np.int64), top, np.exp(-log_sum), loss)


def _best_right(logits: np.ndarray, image: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the right class that is placed best [B], log of all right classes' probability over that one's [B]).

    ``right[k]`` is a right class of ``image[k]``.
    """
    inside = np.full_like(logits, -np.inf)
    inside[image, right] = logits[image, right]
    best = inside.argmax(axis=1)
    return best, np.log(np.exp(inside - inside.max(axis=1, keepdims=True)).sum(axis=1))
