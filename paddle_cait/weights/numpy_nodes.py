"""What numpy writes into pickles, as inert nodes: dtypes, arrays, scalars, and the text form of bytes.

Modules: numpy 1 says ``numpy.core``, numpy 2 ``numpy._core``. Protocols 2-4 store an array as ``_reconstruct`` and a
state, protocol 5 as ``_frombuffer``. Before protocol 3 bytes are a latin-1 text handed to ``_codecs.encode``.
"""

from __future__ import annotations

import codecs
from typing import Any, Union

import numpy as np

from paddle_cait.weights.byte_source import BLOCK, ByteSource
from paddle_cait.weights.pickle_values import Blob, Global, Globals, Node, Refusal
from paddle_cait.weights.tensors import DTYPES, Inert, TensorRef, as_bytes, is_shape, nbytes_of, quote

# numpy's own codes -> our names. Left out: objects, texts, records, dates, complex numbers.
_CODES = {
    "f8": "float64", "f4": "float32", "f2": "float16",
    "i8": "int64", "i4": "int32", "i2": "int16", "i1": "int8",
    "u8": "uint64", "u4": "uint32", "u2": "uint16", "u1": "uint8", "b1": "bool",
}  # fmt: skip

Data = Union[Blob, str]  # a str is what Python 2 wrote, or a short text not yet turned into bytes


def dtype_name(code: str) -> str:
    """Our name for a numpy code without byte order (``f4``). Raises :class:`Refusal` for anything but numbers."""
    if code not in _CODES:
        why = (
            "Python objects, which are code" if code.startswith("O") else f"numpy dtype {quote(code)}, expected numbers"
        )
        raise Refusal(f"holds {why}")
    return _CODES[code]


class DType(Node):
    """A ``numpy.dtype``: its code, then its byte order from the state."""

    __slots__ = ("code", "order")
    kind = "numpy dtype"

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        if not arguments or type(arguments[0]) is not str:
            raise Refusal("expected the code of a dtype")
        self.code = arguments[0]
        self.order: str | None = None

    def build(self, state: object) -> None:
        if (
            self.order is not None
            or not isinstance(state, tuple)
            or len(state) < 2
            or state[1] not in ("<", ">", "|", "=")
        ):
            raise Refusal("the state of a numpy dtype names no byte order, or comes twice")
        self.order = state[1]

    def leaf(self, name: str) -> Any:
        return Inert("numpy.dtype", self.code[:40])


class Array(Node):
    """A ``numpy.ndarray``: nothing until its state comes; checked when it gets its name."""

    __slots__ = ("axes", "data", "dtype", "fortran", "shape", "source")
    kind = "numpy array"

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.shape: Any = None
        self.dtype: Any = None
        self.fortran = False
        self.data: Any = None
        self.axes: tuple[int, ...] | None = None

    def build(self, state: object) -> None:
        if self.shape is not None or not isinstance(state, tuple) or len(state) != 5 or state[0] != 1:
            raise Refusal("a numpy array has a state of unknown form, or two")
        _, self.shape, self.dtype, fortran, self.data = state
        self.fortran = fortran in (True, 1)

    def leaf(self, name: str) -> TensorRef:
        if not isinstance(self.dtype, DType):
            raise Refusal("the array has no dtype")
        dtype = dtype_name(self.dtype.code)
        if not is_shape(self.shape):
            raise Refusal(f"impossible shape {quote(self.shape)}")
        if not isinstance(self.data, (Blob, str)):
            raise Refusal(f"the array's data is a {type(self.data).__name__}, expected bytes")
        wanted = nbytes_of(self.shape, dtype)
        if not fits(self.data, wanted):
            raise Refusal(f"{size_of(self.data)} bytes for {dtype} {quote(self.shape)}, which takes {wanted}")
        # Paddle has no other way to put bfloat16 into numpy; no Paddle tensor is uint16.
        shown = "bfloat16" if dtype == "uint16" else dtype
        shape = tuple(self.shape)
        if self.axes is not None:
            axes = self.axes
            known = isinstance(axes, tuple) and all(type(axis) is int for axis in axes)
            if not known or sorted(axes) != list(range(len(shape))):
                raise Refusal(f"axes {quote(self.axes)} for {len(shape)} dimensions")
            shape = tuple(shape[axis] for axis in self.axes)
        return TensorRef(name, shape, shown, lambda: self._read(name, dtype))

    def _read(self, name: str, dtype: str) -> np.ndarray:
        flat = np.empty(nbytes_of(self.shape, dtype) // DTYPES[dtype].itemsize, DTYPES[dtype])
        fill(self.source, name, self.data, as_bytes(flat))
        if self.dtype.order == ">":
            flat.byteswap(inplace=True)
        array = flat.reshape(self.shape, order="F" if self.fortran else "C")
        return np.asarray(array if self.axes is None else array.transpose(self.axes), order="C")


class Scalar(Node):
    """A number that a training run computed with numpy (a best accuracy); becomes a plain Python number."""

    __slots__ = ("data", "dtype", "source")
    kind = "numpy scalar"

    def __init__(self, source: ByteSource, arguments: tuple[Any, ...]) -> None:
        if len(arguments) != 2 or not isinstance(arguments[0], DType) or not isinstance(arguments[1], (Blob, str)):
            raise Refusal("expected a dtype and bytes")
        self.source = source
        self.dtype, self.data = arguments

    def leaf(self, name: str) -> Any:
        kind = DTYPES[dtype_name(self.dtype.code)]
        value = np.zeros(1, kind)
        if not fits(self.data, kind.itemsize):
            raise Refusal(f"{size_of(self.data)} bytes for one number of dtype {self.dtype.code}")
        fill(self.source, name, self.data, as_bytes(value))
        return value.byteswap()[0].item() if self.dtype.order == ">" else value[0].item()


def numpy_globals(source: ByteSource, arrays: bool) -> Globals:
    """The names numpy uses in pickles. ``arrays=False``: scalars alone, for files that keep their tensors elsewhere."""

    def scalar(arguments: tuple[Any, ...]) -> Scalar:
        return Scalar(source, arguments)

    def reconstruct(arguments: tuple[Any, ...]) -> Array:
        return Array(source)  # (ndarray, (0,), b"b"): an empty array, whatever they are; the state says the rest

    def from_buffer(arguments: tuple[Any, ...]) -> Array:
        if len(arguments) not in (4, 5) or arguments[3] not in ("C", "F", "K"):
            raise Refusal("expected bytes, dtype, shape, order")
        array = Array(source)
        array.data, array.dtype, array.shape = arguments[:3]
        array.fortran = arguments[3] == "F"
        array.axes = arguments[4] if arguments[3] == "K" and len(arguments) == 5 else None
        return array

    found = {
        ("numpy", "dtype"): Global("numpy.dtype", DType),
        ("_codecs", "encode"): Global("_codecs.encode", _encode),
        ("__builtin__", "bytes"): Global("bytes", _no_bytes),
        ("builtins", "bytes"): Global("bytes", _no_bytes),
    }
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "scalar"] = Global("numpy scalar", scalar)
        if arrays:
            found[f"{core}.multiarray", "_reconstruct"] = Global("numpy array", reconstruct)
            found[f"{core}.numeric", "_frombuffer"] = Global("numpy array", from_buffer)
    if arrays:
        found["numpy", "ndarray"] = Global("numpy.ndarray")
    return found


def _encode(arguments: tuple[Any, ...]) -> Data:
    """The text itself: it is encoded when a tensor is read, piece by piece."""
    if len(arguments) != 2 or arguments[1] != "latin1" or not isinstance(arguments[0], (Blob, str)):
        raise Refusal("expected a text and 'latin1'")
    data: Data = arguments[0]
    return data


def _no_bytes(arguments: tuple[Any, ...]) -> Blob:
    """Protocol 2 writes empty bytes as a call of ``bytes`` without arguments."""
    if arguments:
        raise Refusal("expected no arguments")
    return Blob(0, 0)


def size_of(data: Data) -> int:
    """Number of bytes, at least: the characters of a text that is still in the file take one or two."""
    if isinstance(data, str):
        return len(data)
    return (data.length + 1) // 2 if data.text else data.length


def fits(data: Data, wanted: int) -> bool:
    """Can ``data`` be ``wanted`` bytes? For a text that is still in the file, reading it gives the last word."""
    return size_of(data) == wanted or (isinstance(data, Blob) and data.text and size_of(data) <= wanted <= data.length)


def fill(source: ByteSource, name: str, data: Data, buffer: memoryview) -> None:
    """Fill ``buffer`` with the bytes that ``data`` stands for; at most a few MiB beside it are held."""
    if isinstance(data, str):
        try:
            buffer[:] = data.encode("latin-1")
        except UnicodeEncodeError as error:
            raise source.error(f"tensor {quote(name)}: its bytes are written as a text beyond latin-1") from error
    elif not data.text:
        source.read_into(data.offset, buffer)
    else:
        _fill_from_text(source, name, data, buffer)


def _fill_from_text(source: ByteSource, name: str, data: Blob, buffer: memoryview) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    try:
        for start in range(0, data.length, BLOCK):
            count = min(BLOCK, data.length - start)
            piece = decoder.decode(source.read(data.offset + start, count), final=start + count == data.length)
            encoded = piece.encode("latin-1")
            if done + len(encoded) > len(buffer):
                break
            buffer[done : done + len(encoded)] = encoded
            done += len(encoded)
        else:
            if done == len(buffer):
                return
    except UnicodeError as error:
        raise source.error(f"tensor {quote(name)}: its bytes are written as a text beyond latin-1") from error
    raise source.error(f"tensor {quote(name)}: its data has another length than its shape says, the file is damaged")
