"""Weights where none are given: drawn by name, so that every tensor matters and logits are about 1 in size.

A model's own initial values would hide what is timed here (LayerScale at 1e-5 makes every block the identity) and could
slow it down (numbers below float32's normal range).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """A state of float32 arrays for the official names and their shapes in PyTorch's orientation."""
    return {name: _tensor(name, tuple(shape), seed) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    mean, deviation = _statistics(name.rpartition(".")[2], shape)
    rng = np.random.RandomState(zlib.crc32(f"bench {seed} {name}".encode()))
    return (mean + deviation * rng.standard_normal(shape)).astype(np.float32)


def _statistics(leaf: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and deviation of a tensor: by what it is called, and how many numbers it adds up."""
    if leaf.startswith("gamma"):  # LayerScale
        return 0.2, 0.05
    if leaf == "pos_embed" or leaf.endswith(("_token", "_tokens")):
        return 0.0, 0.3
    if leaf == "bias":
        return 0.0, 0.1
    if len(shape) == 1:  # a norm's scale
        return 1.0, 0.2
    return 0.0, float(np.prod(shape[1:])) ** -0.5
