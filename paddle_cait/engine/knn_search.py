"""The nearest of many features by cosine similarity, exactly and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

import numpy as np
from tqdm import tqdm

from paddle_cait.engine.feature_store import Features
from paddle_cait.errors import PaddleCaitError

# Similarities are computed [1024, 8192] at a time, 32 MiB. numpy's product is as fast as Paddle's on CPUs (220 GFLOP/s
# on two cores of a Zen 5), and picking what is above the worst neighbour so far costs a tenth of a top-k.
_ROWS, _COLUMNS, _FIRST = 1024, 8192, 256
_SPARE = 16  # candidates beyond k, among which float64 decides
_PAIRS = 4096
FeatureRows = Union[Features, np.ndarray]


def nearest(train: FeatureRows, val: FeatureRows, k: int, progress: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows of ``train`` [n, F] most similar to each row of ``val`` [m, F], the most similar first.

    Returns (cosine similarity float64 [m, k], row of train int64 [m, k]). Candidates are found by products in float32
    and ordered by ones in float64, each summed for itself: the last bit of a matrix product depends on how it is cut
    into blocks, and would decide between copies of one image. ``train`` is read in blocks; memory is that of ``val``,
    three times the result, and some 150 MiB. :class:`PaddleCaitError` for k > n and features that are not finite.
    """
    n, m = len(train), len(val)
    if not 1 <= k <= n:
        raise PaddleCaitError(f"k is {k}, expected 1 to {n}: the number of train images (give others with --nb-knn)")
    asked, wanted = _unit(val[0:m]), min(k + _SPARE, n)
    similarity, rows = np.full((m, wanted), -np.inf, np.float32), np.full((m, wanted), -1, np.int64)
    with tqdm(total=n, unit="img", desc="k-NN", disable=None if progress else True) as bar:
        for start, end in _growing(n):
            columns = _unit(train[start:end]).T
            for first in range(0, m, _ROWS):
                part = slice(first, first + _ROWS)
                _merge(similarity[part], rows[part], asked[part] @ columns, start)
            bar.update(end - start)
    rows.sort(axis=1)  # of equal similarities the earlier image stays first
    exact = _exact(train, asked, rows)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(exact, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _growing(n: int) -> Iterator[tuple[int, int]]:
    """Blocks of 0..n, small ones first: while no neighbours are known, all of a block must be sorted."""
    start, size = 0, _FIRST
    while start < n:
        yield start, min(start + size, n)
        start, size = start + size, min(2 * size, _COLUMNS)


def _unit(features: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.einsum("ij,ij->i", features, features))
    if not np.isfinite(length).all():
        raise PaddleCaitError("features are not finite")
    return features / np.maximum(length, np.float32(1e-12))[:, None]


def _merge(similarity: np.ndarray, rows: np.ndarray, new: np.ndarray, start: int) -> None:
    """Put what of ``new`` [m, columns] belongs there among the best, in place. ``start`` is the row of column 0."""
    above = np.flatnonzero(new > similarity[:, -1:])  # an equal one comes later in the list: it loses
    place, column = np.divmod(above, new.shape[1])
    if not len(place):
        return
    counts = np.bincount(place, minlength=len(new))
    slot = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.full((len(new), counts.max()), -np.inf, np.float32)
    found_rows = np.full(found.shape, -1, np.int64)
    found[place, slot], found_rows[place, slot] = new[place, column], column + start
    both, both_rows = np.hstack([similarity, found]), np.hstack([rows, found_rows])
    order = np.argsort(-both, axis=1, kind="stable")[:, : similarity.shape[1]]
    similarity[:] = np.take_along_axis(both, order, axis=1)
    rows[:] = np.take_along_axis(both_rows, order, axis=1)


def _exact(train: FeatureRows, asked: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Similarity of each row of ``asked`` and those of ``train`` named in its ``rows``, float64 [m, candidates]."""
    similarity = np.empty(rows.shape)
    for start, end in _growing(len(train)):
        block = _unit(train[start:end])
        place, slot = np.nonzero((rows >= start) & (rows < end))
        for first in range(0, len(place), _PAIRS):
            pair = place[first : first + _PAIRS], slot[first : first + _PAIRS]
            left, right = asked[pair[0]].astype(np.float64), block[rows[pair] - start].astype(np.float64)
            similarity[pair] = np.einsum("ij,ij->i", left, right)
    return similarity
