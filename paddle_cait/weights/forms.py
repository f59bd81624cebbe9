"""Arrays that a framework stores in another form than PyTorch: each form takes a tensor and gives it as PyTorch's.

Lazily: a form changes the announced shape now and the values when they are read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Callable

import numpy as np

from paddle_cait.weights.tensors import TensorRef

Form = Callable[[TensorRef], TensorRef]


def _changed(ref: TensorRef, shape: Sequence[int], change: Callable[[np.ndarray], np.ndarray]) -> TensorRef:
    return replace(ref, shape=tuple(shape), read=lambda: np.ascontiguousarray(change(ref.read())))


def _reshaped(ref: TensorRef, shape: Sequence[int]) -> TensorRef:
    return _changed(ref, shape, lambda array: array.reshape(shape))


def conv_kernel(ref: TensorRef) -> TensorRef:
    """Flax's convolution kernel [height, width, in, out] -> [out, in, height, width]."""
    if len(ref.shape) != 4:
        return ref
    height, width, inputs, outputs = ref.shape
    return _changed(ref, (outputs, inputs, height, width), lambda array: array.transpose(3, 2, 0, 1))


def depthwise_kernel(ref: TensorRef) -> TensorRef:
    """Keras's depthwise kernel [height, width, channels, 1] -> [channels, 1, height, width]."""
    if len(ref.shape) != 4:
        return ref
    height, width, channels, each = ref.shape
    return _changed(ref, (channels, each, height, width), lambda array: array.transpose(2, 3, 0, 1))


def heads_last(ref: TensorRef) -> TensorRef:
    """Projection into heads, kernel [in, heads, size] -> [in, heads*size], bias [heads, size] -> [heads*size]."""
    if len(ref.shape) not in (2, 3):
        return ref
    return _reshaped(ref, (*ref.shape[:-2], ref.shape[-2] * ref.shape[-1]))


def heads_first(ref: TensorRef) -> TensorRef:
    """Flax's projection out of heads, [heads, size, out] -> [heads*size, out]."""
    return _reshaped(ref, (ref.shape[0] * ref.shape[1], ref.shape[2])) if len(ref.shape) == 3 else ref


def flat(ref: TensorRef) -> TensorRef:
    """A vector in disguise, such as Flax's group norm scale [1, 1, 1, C] -> [C]."""
    return _reshaped(ref, (max(ref.shape),)) if ref.shape and max(ref.shape) == math.prod(ref.shape) else ref


def pointwise(ref: TensorRef) -> TensorRef:
    """A Linear's matrix kept as a 1x1 convolution, [out, in, 1, 1] -> [out, in]."""
    return _reshaped(ref, ref.shape[:2]) if ref.shape[2:] == (1, 1) else ref


def class_entry(ref: TensorRef) -> TensorRef:
    """A position table [1, h*w, C] that has no entry for the class token -> [1, 1 + h*w, C], that entry zero.

    timm adds it to the class token instead, which is the same sum. A table of any other length is left alone.
    """
    if len(ref.shape) != 3 or ref.shape[0] != 1 or math.isqrt(ref.shape[1]) ** 2 != ref.shape[1]:
        return ref
    shape = (1, ref.shape[1] + 1, ref.shape[2])
    return _changed(ref, shape, lambda array: np.pad(array, ((0, 0), (1, 0), (0, 0))))


def joined(refs: Sequence[TensorRef], axis: int) -> TensorRef:
    """Several tensors of one dtype as one, along ``axis``."""
    shape = list(refs[0].shape)
    shape[axis] = sum(ref.shape[axis] for ref in refs)
    name = " + ".join(ref.name for ref in refs)
    return replace(
        refs[0], name=name, shape=tuple(shape), read=lambda: np.concatenate([ref.read() for ref in refs], axis)
    )
