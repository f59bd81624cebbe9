"""Tensors that stay in their file until they are asked for, and the tree of a checkpoint that holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol

import numpy as np

from paddle_cait.errors import WeightsError

# dtype name -> how its bytes lie in a little-endian file. numpy has no bfloat16: its bits travel as uint16.
DTYPES: dict[str, np.dtype[Any]] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}


class Sink(Protocol):
    """What the writers need of a file."""

    def write(self, data: bytes | memoryview, /) -> object: ...


MAX_TENSORS = 100_000  # a file with more is an attack, not a model: bounds the memory its description can take
MAX_NAME = 512
_MAX_DIMS = 32  # numpy 1's limit


@dataclass(frozen=True)
class TensorRef:
    """A tensor of an open checkpoint. ``read()`` fetches exactly its bytes, each time anew, as a C-contiguous array.

    ``name`` is the path of keys in the file, joined with dots. ``shape`` and ``dtype`` (a name of numpy's, or
    ``bfloat16``) are the file's; bfloat16 comes back as its uint16 bits.
    ``read`` raises :class:`WeightsError` for damaged data and after the checkpoint was closed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers, as the file holds them."""
        return nbytes_of(self.shape, self.dtype)


@dataclass(frozen=True)
class OutTensor:
    """A tensor to be written. ``read()`` gives a C-contiguous array of ``shape``; bfloat16 as its uint16 bits."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.shape, self.dtype)

    def data(self) -> memoryview:
        """The tensor's little-endian bytes. :class:`WeightsError` if ``read`` gives another tensor than announced."""
        array = self.read()
        expected = DTYPES[self.dtype]
        if array.dtype != expected or array.shape != self.shape:
            raise WeightsError(
                f"tensor {quote(self.name)} to be written is {array.dtype} {list(array.shape)}, "
                f"announced as {self.dtype} {list(self.shape)}"
            )
        return as_bytes(np.ascontiguousarray(array, dtype=expected))


@dataclass(frozen=True)
class Inert:
    """Something in a checkpoint that is no tensor and no plain value: its name, nothing that could run."""

    name: str
    note: str = ""


@dataclass
class Checkpoint:
    """An open checkpoint file; a context manager. ``path``: the file; ``on_close``: what ``close()`` calls.

    ``format``: pth-zip, pth-legacy, npz, safetensors, pdparams, onnx or hdf5. ``tree``: nested dict, list, tuple, str,
    int, float, bool and None with :class:`TensorRef` and :class:`Inert` leaves. ``metadata``: a safetensors file's own
    texts; of an ONNX model its ``producer`` and the tensors ``left_out``.
    """

    path: Path
    format: str
    tree: dict[Any, Any]
    metadata: dict[str, str] = field(default_factory=dict)
    on_close: Callable[[], None] | None = field(default=None, repr=False)

    def close(self) -> None:
        """Close the file: no tensor of it can be read any more."""
        if self.on_close is not None:
            self.on_close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def as_float32(array: np.ndarray, dtype: str) -> np.ndarray:
    """``array`` of dtype name ``dtype`` (bfloat16 as uint16 bits) as float32, same shape.

    Exact for float32, float16 and bfloat16; float64 is rounded to nearest. Raises :class:`WeightsError` for other
    dtypes and for float64 values that float32 cannot hold.
    """
    if dtype == "float32":
        return array
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "float16":
        return array.astype(np.float32)
    if dtype == "float64":
        try:
            with np.errstate(over="raise"):
                return array.astype(np.float32)
        except FloatingPointError as error:
            raise WeightsError("a float64 tensor has values beyond float32's range") from error
    raise WeightsError(f"a {dtype} tensor is no weight, expected a floating-point one")


def numel_of(shape: Iterable[int]) -> int:
    return math.prod(shape)


def nbytes_of(shape: Iterable[int], dtype: str) -> int:
    return math.prod(shape) * DTYPES[dtype].itemsize


def is_shape(value: object) -> bool:
    """A tuple or list of sizes that numpy can make an array of: bounds are checked before any product reaches numpy."""
    if not isinstance(value, (tuple, list)) or len(value) > _MAX_DIMS:
        return False
    if any(type(size) is not int or size < 0 for size in value):
        return False
    return (
        math.prod(size or 1 for size in value) < 1 << 58
    )  # bytes of any dtype stay below 2**62, also for empty arrays


def as_bytes(array: np.ndarray) -> memoryview:
    """The memory of a C-contiguous array as writable flat bytes (memoryview.cast refuses empty and 0-d arrays)."""
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def quote(value: object, limit: int = 100) -> str:
    """A value out of a file, fit for a one-line message: quoted, escaped, shortened.

    Never the repr of a container: nested ones have reprs without end.
    """
    if isinstance(value, (str, bytes)):
        shown = ascii(value[:limit]) + ("..." if len(value) > limit else "")
    elif isinstance(value, (tuple, list)):
        items = ", ".join(quote(item) if isinstance(item, (int, float)) else _kind(item) for item in value[:8])
        shown = f"[{items}{', ...' if len(value) > 8 else ''}]"
    else:
        shown = ascii(value) if value is None or isinstance(value, (int, float)) else _kind(value)
    return shown if len(shown) <= 2 * limit else shown[: 2 * limit] + "..."


def _kind(value: object) -> str:
    return f"<{type(value).__name__}>"
