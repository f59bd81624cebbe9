"""The memory of the page: bounded in bytes, the least used goes first."""

from dataclasses import dataclass

import numpy as np

from paddle_cait.app.memo import Memo, size_of


@dataclass
class Both:
    one: np.ndarray
    name: str


def test_the_least_used_goes_first():
    memo = Memo(3 * 2048)
    for key in "abc":
        memo.put(key, np.zeros(1024, np.uint8))
    assert memo.get("a") is not None  # b is the least used now
    memo.put("d", np.zeros(1024, np.uint8))
    assert memo.get("b") is None and all(memo.get(key) is not None for key in "acd")
    assert memo.bytes == 3 * 2048


def test_what_is_too_large_is_not_kept_and_replaces_nothing_else():
    memo = Memo(5000)
    memo.put("small", np.zeros(100, np.uint8))
    memo.put("large", np.zeros(6000, np.uint8))
    assert memo.get("large") is None and memo.get("small") is not None


def test_a_key_counts_once():
    memo = Memo(10_000)
    for _ in range(50):
        memo.put("same", np.zeros(2000, np.uint8))
    assert memo.bytes == 3024


def test_bytes_are_counted_through_what_holds_them():
    values = {"a": [Both(np.zeros(10, np.float64), "x"), (np.zeros(5, np.uint8),)], "b": "text"}
    assert size_of(values) == 85
