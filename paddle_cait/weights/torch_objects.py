"""What ``torch.save`` writes into pickles, as inert nodes.

Each entry of :func:`torch_globals` stands for data and runs nothing:

- ``collections.OrderedDict``: a plain dict, as every state dict is one;
- ``torch.*Storage``: the name of a dtype;
- ``torch._utils._rebuild_tensor``, ``_rebuild_tensor_v2``, ``_rebuild_parameter``: storage, offset, shape, strides;
- ``torch.Size``: a tuple;
- ``argparse.Namespace``, ``pathlib`` paths: the arguments of a training run; shown by name, their contents dropped;
- numpy scalars: numbers such as a best accuracy.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from paddle_cait.weights.byte_source import ByteSource
from paddle_cait.weights.numpy_nodes import numpy_globals
from paddle_cait.weights.pickle_values import ORDERED_DICT, Global, Globals, Node, Refusal
from paddle_cait.weights.strided import read_strided, strided_problem
from paddle_cait.weights.tensors import DTYPES, Inert, TensorRef, quote

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")


class Storage(Node):
    """The flat memory of one or several tensors. Whoever opens the file says how its bytes are read."""

    __slots__ = ("big_endian", "dtype", "numel", "read_into")
    kind = "storage"

    def __init__(self, dtype: str, numel: int, big_endian: bool = False) -> None:
        self.dtype = dtype
        self.numel = numel
        self.big_endian = big_endian
        self.read_into: Callable[[int, memoryview], None] = _not_placed

    @property
    def nbytes(self) -> int:
        return self.numel * DTYPES[self.dtype].itemsize

    def leaf(self, name: str) -> Inert:
        return Inert("torch storage", f"{self.numel} x {self.dtype}")


class Tensor(Node):
    """A view of a storage; checked when it gets its name."""

    __slots__ = ("offset", "shape", "storage", "strides")
    kind = "tensor"

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.storage, self.offset, self.shape, self.strides = arguments

    def leaf(self, name: str) -> TensorRef:
        if not isinstance(self.storage, Storage):
            raise Refusal("a tensor without a storage")
        storage, offset, shape, strides = self.storage, self.offset, self.shape, self.strides
        problem = strided_problem(storage.numel, offset, shape, strides)
        if problem:
            raise Refusal(f"shape {quote(shape)}, strides {quote(strides)}, offset {quote(offset)}: {problem}")

        def read() -> np.ndarray:
            array = read_strided(storage.read_into, DTYPES[storage.dtype], offset, shape, strides)
            return array.byteswap(inplace=True) if storage.big_endian else array

        return TensorRef(name, shape, storage.dtype, read)


class Dropped(Node):
    """An object whose contents do not matter here: it keeps its name."""

    __slots__ = ("name", "note")

    def __init__(self, name: str, note: str = "") -> None:
        self.name = name
        self.note = note

    def build(self, state: object) -> None:
        """Whatever the state is, it is dropped."""

    def leaf(self, name: str) -> Inert:
        return Inert(self.name, self.note)


def torch_globals(source: ByteSource) -> Globals:
    """All that a checkpoint of PyTorch may refer to."""
    known = {
        **numpy_globals(source, arrays=False),
        ("collections", "OrderedDict"): ORDERED_DICT,
        ("torch._utils", "_rebuild_tensor"): Global("torch._utils._rebuild_tensor", _tensor),
        ("torch._utils", "_rebuild_tensor_v2"): Global("torch._utils._rebuild_tensor_v2", _tensor_v2),
        ("torch._utils", "_rebuild_parameter"): Global("torch._utils._rebuild_parameter", _parameter),
        ("torch", "Size"): Global("torch.Size", _size),
        ("argparse", "Namespace"): Global("argparse.Namespace", lambda _: Dropped("argparse.Namespace")),
    }
    for name in _STORAGES:
        known["torch", name] = Global(name)
    for name in _PATHS:
        known["pathlib", name] = known["pathlib._local", name] = Global(f"pathlib.{name}", _path)
    return known


def storage_of(identity: Any, fields: int) -> tuple[str, Storage]:
    """Key and storage of a persistent id ``("storage", type, key, location, numel)`` of ``fields`` fields."""
    if not isinstance(identity, tuple) or len(identity) < 2 or identity[0] != "storage":
        raise Refusal(
            "refers to something outside that is no storage (a whole model was saved?); save its state dict alone"
        )
    if len(identity) != fields or not isinstance(identity[1], Global) or identity[1].name not in _STORAGES:
        raise Refusal("a storage reference of unknown form")
    key, numel = identity[2], identity[4]
    if type(key) is not str or type(numel) is not int or not 0 <= numel < 1 << 58:
        raise Refusal(f"a storage with key {quote(key)} and {quote(numel)} elements")
    return key, Storage(_STORAGES[identity[1].name], numel)


def _not_placed(start: int, buffer: memoryview) -> None:
    raise AssertionError("a storage is read before it was found in the file")


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    if len(arguments) != 4:
        raise Refusal("expected storage, offset, shape, strides")
    return Tensor(arguments)


def _tensor_v2(arguments: tuple[Any, ...]) -> Tensor:
    """(storage, offset, shape, strides, requires_grad, backward_hooks[, metadata])"""
    if len(arguments) not in (6, 7):
        raise Refusal("expected storage, offset, shape, strides, requires_grad, hooks")
    if len(arguments) == 7 and arguments[6]:
        raise Refusal("a tensor with a negation or conjugation still to be done; save it with .resolve_neg()")
    return Tensor(arguments[:4])


def _parameter(arguments: tuple[Any, ...]) -> Tensor:
    """(tensor, requires_grad, backward_hooks)"""
    if len(arguments) != 3 or not isinstance(arguments[0], Tensor):
        raise Refusal("expected a tensor, requires_grad, hooks")
    return arguments[0]


def _size(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) != 1 or not isinstance(arguments[0], tuple):
        raise Refusal("expected a tuple of sizes")
    return arguments[0]


def _path(arguments: tuple[Any, ...]) -> Dropped:
    return Dropped("pathlib.Path", "/".join(part for part in arguments if type(part) is str)[:200])
