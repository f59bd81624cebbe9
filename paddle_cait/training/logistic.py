"""A linear classifier on features that are computed once: multinomial logistic regression, by SciPy's L-BFGS.

(Paddle's own ends in an exception inside its line search on 2.6.2, and early in float32.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_cait.errors import ConfigError

DECAYS = tuple(10.0 ** (-half / 2) for half in range(-2, 9))  # 10 ... 1e-4
_HELD_OUT, _MOST = 0.2, 50_000  # images that choose the decay
_ROWS = 16_384  # of one matrix product, so that ImageNet's logits fit in memory


@dataclass(frozen=True)
class Logistic:
    """logits = features @ ``weight`` [F, classes] + ``bias`` [classes], float32. ``decay`` was added to the mean cross
    entropy as decay / 2 times the squares of the weights, on features of mean 0 and variance 1."""

    weight: np.ndarray
    bias: np.ndarray
    decay: float

    def loss(self, features: np.ndarray, labels: np.ndarray) -> float:
        """The mean cross entropy."""
        total = 0.0
        for start in range(0, len(labels), _ROWS):
            x, right = features[start : start + _ROWS], labels[start : start + _ROWS]
            logits = (x @ self.weight + self.bias).astype(np.float64)
            logits -= logits.max(1, keepdims=True)
            total += float((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(right)), right]).sum())
        return total / len(labels)


def fit(features: np.ndarray, labels: np.ndarray, classes: int, seed: int = 0) -> tuple[Logistic, dict[float, float]]:
    """The classifier of ``features`` float32 [n, F], ``labels`` int64 [n]; and what each decay came to.

    The decay is that with the smallest loss on a fifth of each class, held out here and learnt from afterwards: the
    validation images have no part in it.
    """
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(labels))[:_MOST]
    held = _stratified(labels[some], rng)
    ours, theirs = some[~held], some[held]
    found = {
        one.decay: one.loss(features[theirs], labels[theirs])
        for one in _fit(features[ours], labels[ours], classes, DECAYS)
    }
    best = min(found, key=found.__getitem__)
    return _fit(features, labels, classes, [best])[0], found


def _stratified(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool [n]: a fifth of each class, and none of a class of one image."""
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        places = rng.permutation(np.flatnonzero(labels == label))
        held[places[: max(round(_HELD_OUT * len(places)), min(1, len(places) - 1))]] = True
    return held


def _fit(features: np.ndarray, labels: np.ndarray, classes: int, decays: Sequence[float]) -> list[Logistic]:
    """One for each decay, the next beginning where the last ended."""
    minimize = find_minimize()
    mean, std = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    std[std < 1e-6 * max(std.max(), 1e-30)] = 1.0  # a feature that does not vary tells nothing
    scaled = (features - mean) / std
    place = np.zeros((features.shape[1] + 1, classes))  # the last row: biases
    fitted = []
    for decay in decays:
        found = minimize(
            _objective, place.ravel(), (scaled, labels, classes, decay), "L-BFGS-B", jac=True,
            options={"maxiter": 1000, "gtol": 1e-7, "ftol": 1e-12},
        )  # fmt: skip
        place = found.x.reshape(place.shape)
        weight = place[:-1] / std[:, None]
        bias = place[-1] - mean @ weight
        fitted.append(Logistic(weight.astype(np.float32), bias.astype(np.float32), float(decay)))
    return fitted


def _objective(
    place: np.ndarray, features: np.ndarray, labels: np.ndarray, classes: int, decay: float
) -> tuple[float, np.ndarray]:
    """The loss and its gradient, float64."""
    place = place.reshape(-1, classes)
    gradient = decay * place
    gradient[-1] = 0.0  # biases do not decay
    total = 0.5 * decay * float(np.square(place[:-1]).sum())
    for start in range(0, len(labels), _ROWS):
        x, right = features[start : start + _ROWS], labels[start : start + _ROWS]
        logits = x @ place[:-1] + place[-1]
        logits -= logits.max(1, keepdims=True)
        rows = np.arange(len(right))
        own = logits[rows, right]
        np.exp(logits, out=logits)
        sums = logits.sum(1, keepdims=True)
        total += float((np.log(sums[:, 0]) - own).sum()) / len(labels)
        logits /= sums
        logits[rows, right] -= 1.0
        logits /= len(labels)
        gradient[:-1] += x.T @ logits
        gradient[-1] += logits.sum(0)
    return total, gradient.ravel()


def find_minimize() -> Any:
    """SciPy's function. Raises :class:`ConfigError` where it is not installed."""
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise ConfigError("tune: linear needs SciPy: pip install scipy") from error
    return minimize
