"""Tensors as PyTorch lays them in a storage: an offset and a stride for each dimension, read without the storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from paddle_cait.weights.byte_source import BLOCK
from paddle_cait.weights.tensors import as_bytes, is_shape, numel_of

ReadInto = Callable[[int, memoryview], None]  # byte offset within the storage, buffer to fill


def strided_problem(numel: int, offset: object, shape: object, strides: object) -> str | None:
    """Why a tensor cannot lie in a storage of ``numel`` elements, or None if it can. Nothing is trusted."""
    if not is_shape(shape) or not isinstance(shape, tuple):
        return "impossible shape"
    if (
        not isinstance(strides, tuple)
        or len(strides) != len(shape)
        or any(type(s) is not int or s < 0 for s in strides)
    ):
        return "impossible strides"
    if type(offset) is not int or offset < 0:
        return "impossible storage offset"
    count = numel_of(shape)
    if count == 0:
        return None
    if count > numel:
        return f"{count} elements in a storage of {numel} (an expanded view?); save it with .contiguous()"
    reach = 0
    for stride, size in sorted((s, n) for s, n in zip(strides, shape) if n > 1):
        if stride <= reach:
            return "elements that share memory (an expanded or unfolded view); save it with .contiguous()"
        reach += (size - 1) * stride
    if offset + reach >= numel:
        return f"reaches element {offset + reach} of a storage of {numel}"
    return None


def read_strided(
    read_into: ReadInto, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> np.ndarray:
    """The tensor as a C-contiguous array. Beside it at most ``BLOCK`` bytes are held.

    ``offset`` and ``strides`` count elements and passed :func:`strided_problem`.
    """
    out = np.empty(shape, dtype)
    if out.size == 0:
        return out
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    expected = 1
    for axis in reversed(axes):
        if strides[axis] != expected:
            break
        expected *= shape[axis]
    else:
        read_into(offset * dtype.itemsize, as_bytes(out))
        return out
    by_stride = sorted(range(len(axes)), key=lambda i: -strides[axes[i]])
    target = out.reshape([shape[axis] for axis in axes]).transpose(by_stride)
    _gather(read_into, target, offset, [strides[axes[i]] for i in by_stride])
    return out


def _gather(read_into: ReadInto, target: np.ndarray, offset: int, strides: Sequence[int]) -> None:
    """Copy into ``target``, whose dimensions are ordered by falling stride, in runs of the file that fit a block."""
    itemsize = target.dtype.itemsize
    reach = [(size - 1) * stride for size, stride in zip(target.shape, strides)]
    if (1 + sum(reach)) * itemsize <= BLOCK:
        block = np.empty(1 + sum(reach), target.dtype)
        read_into(offset * itemsize, as_bytes(block))
        target[...] = np.ndarray(target.shape, target.dtype, block, strides=[stride * itemsize for stride in strides])
        return
    fitting = (BLOCK // itemsize - 1 - sum(reach[1:])) // strides[0] + 1
    for start in range(0, target.shape[0], max(1, fitting)):
        if fitting > 1:
            _gather(read_into, target[start : start + fitting], offset + start * strides[0], strides)
        else:
            _gather(read_into, target[start, ...], offset + start * strides[0], strides[1:])
