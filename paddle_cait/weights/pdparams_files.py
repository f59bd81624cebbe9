"""Paddle's ``.pdparams`` and ``.pdopt``: a pickled dict of name -> numpy array, read without unpickling, and written.

``paddle.save`` (2.1 to 3.3) writes a state dict as plain arrays plus ``StructuredToParameterName@@``, a dict of texts;
a tensor deeper in the tree as ``tuple((name, array))``, and bfloat16 as uint16.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from paddle_cait.errors import WeightsError
from paddle_cait.weights.byte_source import ByteSource, Window
from paddle_cait.weights.numpy_nodes import Array, numpy_globals
from paddle_cait.weights.pickle_machine import run_pickle
from paddle_cait.weights.pickle_tree import plain_tree
from paddle_cait.weights.pickle_values import ORDERED_DICT, Global, Refusal
from paddle_cait.weights.tensors import Checkpoint, OutTensor, Sink, is_shape, quote

# Protocols 2 and 3 cut a tensor above 1 GiB in pieces and list them here. No model of this package has one.
_CUT = "UnpackBigParamInfor@@"


def open_pdparams(source: ByteSource) -> Checkpoint:
    """The checkpoint in a ``paddle.save`` file (pickle protocols 2 to 5). Raises :class:`WeightsError`."""
    known = {
        **numpy_globals(source, arrays=True),
        ("collections", "OrderedDict"): ORDERED_DICT,
        ("__builtin__", "tuple"): Global("tuple", _named_tensor),
        ("builtins", "tuple"): Global("tuple", _named_tensor),
    }
    window = Window(source, 0, source.size)
    tree = plain_tree(run_pickle(window, known), source.error)
    if window.position != source.size:
        raise source.error(
            f"{source.size - window.position} bytes follow the end of the pickled weights, expected none"
        )
    if _CUT in tree:
        raise source.error("holds a tensor above 1 GiB cut in pieces; write it again with paddle.save(..., protocol=4)")
    return Checkpoint(source.path, "pdparams", tree, on_close=source.close)


def _named_tensor(arguments: tuple[Any, ...]) -> Array:
    """``tuple((name, array))``. The name is Paddle's running number (``linear_0.w_0``): no key of ours."""
    pair = arguments[0] if len(arguments) == 1 else None
    if not isinstance(pair, tuple) or len(pair) != 2 or type(pair[0]) is not str or not isinstance(pair[1], Array):
        raise Refusal("expected the name of a tensor and an array")
    return pair[1]


# Pickle opcodes of the writer, protocol 4. Memo 0: _reconstruct, 1: ndarray, 2 and on: dtypes.
_MULTIARRAY = "numpy.core.multiarray"  # numpy 2 keeps this name for old files; numpy 1 knows no other
_NUMPY_CODES = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "u2",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "b1",
}  # fmt: skip


def write_pdparams(file: Sink, tensors: Sequence[OutTensor]) -> None:
    """Write a dict of arrays that ``paddle.load`` reads on Paddle 2.6 and 3.x under numpy 1 and 2.

    One tensor is in memory at a time. Raises :class:`WeightsError` for repeated names and unsupported dtypes.
    """
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.dtype not in _NUMPY_CODES or not is_shape(tensor.shape):
            raise WeightsError(
                f"tensor {quote(tensor.name)}: {tensor.dtype} {list(tensor.shape)} has no place in .pdparams"
            )
        if tensor.name in seen:
            raise WeightsError(f"two tensors to be written are named {quote(tensor.name)}")
        seen.add(tensor.name)
    file.write(b"\x80\x04}")
    memo: dict[str, int] = {}
    for tensor in tensors:
        _write_item(file, tensor, memo)
    file.write(b".")


def _write_item(file: Sink, tensor: OutTensor, memo: dict[str, int]) -> None:
    data = tensor.data()
    file.write(_text(tensor.name))
    file.write(_global(_MULTIARRAY, "_reconstruct", memo) + _global("numpy", "ndarray", memo))
    file.write(b"K\x00\x85C\x01b\x87R(K\x01(")  # (ndarray, (0,), b"b") called; then the state: version 1, shape
    file.write(b"".join(_integer(size) for size in tensor.shape) + b"t")
    file.write(_dtype(_NUMPY_CODES[tensor.dtype], memo) + b"\x89")  # not in Fortran order
    file.write(b"\x8e" + struct.pack("<Q", len(data)))
    file.write(data)
    file.write(b"tbs")  # state tuple, build, set the dict's item


def _text(text: str) -> bytes:
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise WeightsError(f"tensor name {quote(text)} is no valid text") from error
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if value < 1 << 31 else b"\x8a\x08" + struct.pack("<q", value)


def _remembered(key: str, code: bytes, memo: dict[str, int]) -> bytes:
    if key in memo:
        return b"h" + bytes([memo[key]])
    memo[key] = len(memo)
    return code + b"\x94"


def _global(module: str, name: str, memo: dict[str, int]) -> bytes:
    return _remembered(name, _text(module) + _text(name) + b"\x93", memo)


def _dtype(code: str, memo: dict[str, int]) -> bytes:
    order = "<" if code[1] != "1" else "|"
    called = _text("numpy") + _text("dtype") + b"\x93" + _text(code) + b"\x89\x88\x87R"
    return _remembered(code, called + b"(K\x03" + _text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb", memo)
