"""Checkpoints in PyTorch's layouts, written without PyTorch: the pickles it writes, from stand-ins for its objects."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STORAGES = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage",
    "int64": "LongStorage", "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage",
    "uint8": "ByteStorage", "bool": "BoolStorage",
}  # fmt: skip
MAGIC = 0x1950A86A20F9469CFC6C


class Name:
    """Pickled as the global ``module.name``, whether or not such a thing exists here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        raise AssertionError("pickle wants a callable, nobody calls it")


class Call:
    """Pickled as a call of a global, with a state if there is one."""

    def __init__(self, module: str, name: str, *arguments: Any, state: Any = None) -> None:
        self.target, self.arguments, self.state = Name(module, name), arguments, state


class Storage:
    def __init__(self, data: np.ndarray, dtype: str | None = None, **claims: Any) -> None:
        self.data = data.reshape(-1)
        self.dtype = dtype or data.dtype.name
        self.claims = claims  # numel, key, type: lies for hostile files


class Tensor:
    """Pickled as torch pickles a tensor; by default a contiguous one over its own storage."""

    def __init__(
        self,
        storage: Any,
        shape: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        offset: Any = 0,
        parameter: bool = False,
    ) -> None:
        if isinstance(storage, np.ndarray):
            shape = storage.shape if shape is None else shape
            storage = Storage(storage)
        self.storage, self.offset, self.shape, self.parameter = storage, offset, tuple(shape or ()), parameter
        self.strides = contiguous(self.shape) if strides is None else tuple(strides)

    def reduced(self) -> Call:
        inner = (self.storage, self.offset, self.shape, self.strides, False, OrderedDict())
        plain = Call("torch._utils", "_rebuild_tensor_v2", *inner)
        return Call("torch._utils", "_rebuild_parameter", plain, True, OrderedDict()) if self.parameter else plain


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1) if isinstance(size, int) else 1  # hostile files have shapes of texts
    return tuple(reversed(strides))


class TorchPickler(pickle._Pickler):  # the Python one: the C pickler refuses globals that cannot be imported
    dispatch = pickle._Pickler.dispatch.copy()

    def __init__(self, file: Any, legacy: bool, protocol: int = 2) -> None:
        super().__init__(file, protocol)
        self.legacy = legacy
        self.keys: dict[int, str] = {}
        self.storages: dict[str, Storage] = {}

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Storage):
            return None
        key = self.keys.setdefault(id(value), str(len(self.keys)))
        self.storages[key] = value
        kind = Name("torch", value.claims.get("type", STORAGES.get(value.dtype)))
        fields = ("storage", kind, value.claims.get("key", key), "cpu", value.claims.get("numel", value.data.size))
        return (*fields, None) if self.legacy else fields

    def save_name(self, value: Name) -> None:
        self.write(b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n")
        self.memoize(value)

    def save_call(self, value: Call) -> None:
        self.save_reduce(value.target, value.arguments, state=value.state, obj=value)

    def save_tensor(self, value: Tensor) -> None:
        self.save_call(value.reduced())

    dispatch[Name] = save_name
    dispatch[Call] = save_call
    dispatch[Tensor] = save_tensor


def pickled(value: Any, legacy: bool = False, protocol: int = 2) -> tuple[bytes, dict[str, Storage]]:
    file = io.BytesIO()
    pickler = TorchPickler(file, legacy, protocol)
    pickler.kept = value  # type: ignore[attr-defined]  # ids stay unique while it lives
    pickler.dump(value)
    return file.getvalue(), pickler.storages


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def with_zip64(data: bytes) -> bytes:
    """The archive with the first member's sizes and offset in a zip64 field, as beyond 4 GB."""
    at, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    entry = bytearray(data[at : at + 46])
    packed, size = struct.unpack_from("<2L", entry, 20)
    field = struct.pack("<2H3Q", 1, 24, size, packed, struct.unpack_from("<L", entry, 42)[0])
    entry[20:28] = b"\xff" * 8
    entry[42:46] = b"\xff" * 4
    name_length = struct.unpack_from("<H", entry, 28)[0]
    entry[30:32] = struct.pack("<H", len(field))
    tail = bytearray(data[end:])
    tail[12:16] = struct.pack("<L", struct.unpack_from("<L", tail, 12)[0] + len(field))
    name_end = at + 46 + name_length
    return data[:at] + bytes(entry) + data[at + 46 : name_end] + field + data[name_end:end] + bytes(tail)


def python2_pickle() -> bytes:
    """``OrderedDict(a=1, b=5000000000)`` as Python 2 writes it."""
    items = b"]q\x02(U\x01aK\x01ea]q\x03(T\x01\x00\x00\x00bI5000000000\nea"
    return b"\x80\x02ccollections\nOrderedDict\nq\x00]q\x01" + items + b"\x85R."


def pth_zip_members(
    value: Any, root: str = "archive", byteorder: str = "little", protocol: int = 2
) -> dict[str, bytes]:
    data, storages = pickled(value, protocol=protocol)
    members = {f"{root}/data.pkl": data, f"{root}/byteorder": byteorder.encode()}
    for key, storage in storages.items():
        raw = storage.data.byteswap() if byteorder == "big" else storage.data
        members[f"{root}/data/{key}"] = raw.tobytes()
    return {**members, f"{root}/version": b"3\n"}


def pth_zip(value: Any, **options: Any) -> bytes:
    return zipped(pth_zip_members(value, **options))


def pth_zip_of_pickle(data: bytes, **storages: bytes) -> bytes:
    return zipped({"archive/data.pkl": data, **{f"archive/data/{key[1:]}": raw for key, raw in storages.items()}})


def legacy_head(little_endian: bool = True) -> bytes:
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": sizes}
    return b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, system))


def pth_legacy(value: Any) -> bytes:
    data, storages = pickled(value, legacy=True)
    raw = b"".join(
        struct.pack("<q", len(storages[key].data)) + storages[key].data.tobytes() for key in sorted(storages)
    )
    return legacy_head() + data + pickle.dumps(sorted(storages), 2) + raw


def pth_legacy_of_pickle(data: bytes) -> bytes:
    return legacy_head() + data + pickle.dumps([], 2)


def npz(arrays: Mapping[str, np.ndarray], compressed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def arrays() -> dict[str, np.ndarray]:
    """One array of every dtype, and the shapes that readers get wrong: 0-d, empty, one element."""
    draw = np.random.default_rng(0)
    made = {
        "scalar": np.array(1.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "one": np.ones((1, 1, 1), np.float64),
        "weight": draw.standard_normal((4, 3, 2)).astype(np.float32),
        "bool": np.array([True, False, True]),
    }
    for name in ("float64", "float32", "float16"):
        made[name] = draw.standard_normal((3, 5)).astype(name)
    for name in ("int64", "int32", "int16", "int8", "uint8"):
        limits = np.iinfo(name)
        made[name] = np.array([limits.min, limits.max, 7], name)
    return made


def training_tree() -> dict[str, Any]:
    """What a training checkpoint holds beside its weights."""
    values = np.arange(24, dtype=np.float32)
    shared = Storage(values)
    state: Any = OrderedDict((name, Tensor(array)) for name, array in arrays().items())
    state["transposed"] = Tensor(shared, (4, 6), (1, 4))
    state["sliced"] = Tensor(shared, (2, 3), (8, 2), offset=1)
    state["parameter"] = Tensor(shared, (24,), parameter=True)
    state["bfloat16"] = Tensor(Storage(np.array([0x3F80, 0xC000], np.uint16), "bfloat16"), (2,))
    return {
        "model": state,
        "optimizer": {
            "state": {0: {"step": 3}},
            "param_groups": [{"lr": 1e-3, "params": [0, 1], "betas": (0.9, 0.999)}],
        },
        "args": argparse.Namespace(lr=0.1, nested={"a": [None, True]}),
        "path": Call("pathlib", "PosixPath", "/", "data"),
        "size": Call("torch", "Size", (1, 2)),
        "best": np.float64(0.5),
        "epoch": 299,
        "big": 10**18,
        "note": "ImageNet",
        "long": "x" * 10_000,
        "raw": b"abc",
    }


def expected_training_arrays() -> dict[str, np.ndarray]:
    values = np.arange(24, dtype=np.float32)
    return {
        **arrays(),
        "transposed": values.reshape(6, 4).T,
        "sliced": values[1:].reshape(-1)[[0, 2, 4, 8, 10, 12]].reshape(2, 3),
        "parameter": values,
        "bfloat16": np.array([0x3F80, 0xC000], np.uint16),
    }
