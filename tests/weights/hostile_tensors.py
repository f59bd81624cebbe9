"""Tensors that claim what they are not, in each pickled format."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import make_files as make
import numpy as np
from hostile_pickles import PROTO, call, entry, name, text

ONES = np.ones(12, np.float32)


def claims() -> dict[str, Any]:
    """Torch tensors as ``{"a": tensor}``, for the zip and the legacy format."""
    tensor, storage = make.Tensor, make.Storage
    nan = float("nan")

    def views(*tensors: Any) -> dict[str, Any]:
        return {str(index): value for index, value in enumerate(tensors)}

    made = {
        "more than the storage": tensor(ONES, (13,)),
        "past the end": tensor(ONES, (6,), offset=7),
        "strides past the end": tensor(ONES, (6,), (3,)),
        "expanded": tensor(ONES, (1 << 30,), (0,)),
        "expanded a little": tensor(ONES, (3, 4), (0, 1)),
        "overlapping": tensor(ONES, (3, 4), (1, 1)),
        "unfolded": tensor(ONES, (5, 4), (2, 1)),
        "shape beyond 64 bits": tensor(ONES, (1 << 62, 1 << 62), (0, 0)),
        "shape beyond 64 bits and empty": tensor(ONES, (1 << 62, 0), (1, 1)),
        "negative shape": tensor(ONES, (-12,)),
        "negative shapes": tensor(ONES, (-3, -4), (4, 1)),
        "negative stride": tensor(ONES, (12,), (-1,)),
        "negative offset": tensor(ONES, (4,), offset=-4),
        "huge offset": tensor(ONES, (4,), offset=1 << 63),
        "huge stride": tensor(ONES, (2,), (1 << 200,)),
        "nan shape": tensor(ONES, (nan,)),
        "inf stride": tensor(ONES, (2,), (float("inf"),)),
        "float shape": tensor(ONES, (12.0,)),
        "bool shape": tensor(ONES, (True,)),
        "text shape": tensor(ONES, ("12",)),
        "float offset": tensor(ONES, (4,), offset=0.5),
        "None offset": tensor(ONES, (4,), offset=None),
        "100 dimensions": tensor(ONES, (1,) * 100),
        "strides of another length": tensor(ONES, (3, 4), (1,)),
        "no storage": tensor(None, (3,)),
        "a list as storage": tensor([1.0, 2.0], (2,)),
        "unknown type": tensor(storage(ONES, type="EvilStorage"), (12,)),
        "complex type": tensor(storage(ONES, type="ComplexFloatStorage"), (6,)),
        "quantised type": tensor(storage(ONES, type="QInt8Storage"), (6,)),
        "type is a function": tensor(storage(ONES, type="load"), (12,)),
        "type is another global": tensor(storage(ONES, type="Size"), (12,)),
        "storage shorter than claimed": tensor(storage(ONES, numel=1 << 40), (1 << 40,)),
        "storage one shorter": tensor(storage(ONES, numel=13), (13,)),
        "storage longer than claimed": tensor(storage(ONES, numel=11), (11,)),
        "negative storage": tensor(storage(ONES, numel=-12), (12,)),
        "huge storage": tensor(storage(ONES, numel=1 << 62), (1 << 62,)),
        "huge negative storage": tensor(storage(ONES, numel=-(1 << 62)), (4,)),
        "float storage": tensor(storage(ONES, numel=12.0), (12,)),
        "number as key": tensor(storage(ONES, key=7), (12,)),
        "traversal key": tensor(storage(ONES, key="../../../../etc/passwd"), (12,)),
        "pickle as storage": tensor(storage(ONES, key="../data.pkl"), (12,)),
        "None key": tensor(storage(ONES, key=None), (12,)),
    }
    whole = {key: {"a": value} for key, value in made.items()}
    shared = [storage(ONES, key="0"), storage(ONES, key="0", type="IntStorage")]
    whole["one storage, two types"] = views(*(tensor(s, (12,)) for s in shared))
    whole["one storage, two lengths"] = views(*(tensor(storage(ONES, key="0", numel=n), (1,)) for n in (12, 11)))
    return whole


def torch_calls() -> dict[str, bytes]:
    """Calls of known torch names with wrong arguments, and references that are none."""
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    size = name("torch", "Size")
    reference = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu")
    good = b"K\x00K\x01\x85K\x01\x85\x89}"
    parameter = name("torch._utils", "_rebuild_parameter")
    plain = call(name("torch._utils", "_rebuild_tensor"), b"N", b"K\x00", b")", b")")
    where = text("0") + text("cpu")
    return {
        "tensor of nothing": entry(rebuild + b")R"),
        "tensor of too much": entry(call(rebuild, *[b"N"] * 20)),
        "tensor to be conjugated": entry(call(rebuild, b"N", good, b"}" + text("conj") + b"\x88s")),
        "parameter of a text": entry(call(parameter, text("a"), b"\x88", b"}")),
        "parameter of a parameter's class": entry(call(parameter, rebuild, b"\x88", b"}")),
        "size of a text": entry(call(size, text("a"))),
        "size of nothing": entry(size + b")R"),
        "call a storage class": entry(call(name("torch", "FloatStorage"), b"K\x05")),
        "storage reference of nothing": entry(b")Q"),
        "storage reference is a text": entry(text("storage") + b"Q"),
        "storage reference is a module": entry(b"(" + text("module") + name("torch", "Size") + where + b"tQ"),
        "storage reference too short": entry(reference + b"tQ"),
        "storage reference too long": entry(reference + b"K\x01NNNNtQ"),
        "storage reference is a view": entry(reference + b"K\x01(" + text("1") + b"K\x00K\x01ttQ"),
        "storage class is a text": entry(b"(" + text("storage") + text("FloatStorage") + where + b"K\x01tQ"),
        "build a tensor": entry(plain + b"}b"),
        "tensors without storage": PROTO + b"}" + text("a") + plain + b"s" + text("b") + plain + b"s.",
    }  # fmt: skip


def nested() -> dict[str, bytes]:
    """Tuples whose repr, hash or comparison would never end, wherever a number or a text is expected."""
    laughs = b")q\x00" + b"h\x00h\x00\x86q\x00" * 100
    deep = b")" + b"\x85" * 100_000
    made = {}
    for kind, value in (("exponential", laughs), ("deep", deep)):
        reference = b"(" + text("storage") + name("torch", "FloatStorage")
        tensor = name("torch._utils", "_rebuild_tensor")
        storage = reference + text("0") + text("cpu") + b"K\x0ctQ"
        made.update(
            {
                f"{kind} storage": call(tensor, value, b"K\x00", b"K\x0c\x85", b"K\x01\x85"),
                f"{kind} offset": call(tensor, storage, value, b"K\x0c\x85", b"K\x01\x85"),
                f"{kind} shape": call(tensor, storage, b"K\x00", value, b"K\x01\x85"),
                f"{kind} strides": call(tensor, storage, b"K\x00", b"K\x0c\x85", value),
                f"{kind} size": call(name("torch", "Size"), value),
                f"{kind} metadata": call(name("torch._utils", "_rebuild_tensor_v2"), *[b"N"] * 6, value),
                f"{kind} identity": value + b"Q",
                f"{kind} identity's kind": b"(" + value + b"NNNNtQ",
                f"{kind} identity's type": b"(" + text("storage") + value + text("0") + text("cpu") + b"K\x0ctQ",
                f"{kind} key": reference + value + text("cpu") + b"K\x0ctQ",
                f"{kind} count": reference + text("0") + text("cpu") + value + b"tQ",
                f"{kind} call": value + b")R",
                f"{kind} arguments": name("collections", "OrderedDict") + value + b"R",
                f"{kind} state": value + b"}b",
                f"{kind} module": value + value + b"\x93",
                f"{kind} encoding": call(name("_codecs", "encode"), text("a"), value),
                f"{kind} dtype": call(name("numpy", "dtype"), value),
                f"{kind} dtype's state": call(name("numpy", "dtype"), text("f4")) + value + b"b",
                f"{kind} order": call(name("numpy", "dtype"), text("f4")) + b"(K\x03" + value + b"tb",
                f"{kind} scalar": call(name("numpy.core.multiarray", "scalar"), value, value),
                f"{kind} array's shape": array(value, "f4", raw(bytes(48))),
                f"{kind} array's version": array(b"K\x0c\x85", "f4", raw(bytes(48)), version=value),
                f"{kind} array's data": array(b"K\x0c\x85", "f4", value),
                f"{kind} array's order": array(b"K\x0d\x85", "f4", raw(bytes(48)), fortran=value),
                f"{kind} buffer": call(name("numpy._core.numeric", "_frombuffer"), value, value, value, text("C")),
                f"{kind} buffer's order": call(name("numpy._core.numeric", "_frombuffer"), *[value] * 4),
                f"{kind} buffer's axes": call(
                    name("numpy._core.numeric", "_frombuffer"),
                    raw(bytes(48)),
                    dtype("f4"),
                    b"K\x0c\x85",
                    text("K"),
                    value,
                ),
                f"{kind} named tensor": call(name("builtins", "tuple"), value),
            }
        )
    return {key: entry(value) for key, value in made.items()}


def dtype(code: str, order: str = "<") -> bytes:
    return (
        call(name("numpy", "dtype"), text(code), b"\x89", b"\x88")
        + b"(K\x03"
        + text(order)
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )


def array(shape: bytes, code: str, data: bytes, version: bytes = b"K\x01", fortran: bytes = b"\x89") -> bytes:
    made = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
    return made + b"(" + version + shape + dtype(code) + fortran + data + b"tb"


def raw(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def pdparams_arrays() -> dict[str, bytes]:
    twelve = raw(bytes(48))
    frombuffer = name("numpy._core.numeric", "_frombuffer")
    long_text = "é" * 5000
    many = array(b"K\x0c\x85", "f4", twelve) + b"q\x00"
    return {
        "objects": pickle.dumps({"a": np.array([{"x": 1}, None], object)}, 4),
        "objects, protocol 2": pickle.dumps({"a": np.array([len], object)}, 2),
        "texts": pickle.dumps({"a": np.array(["x"])}, 4),
        "bytes": pickle.dumps({"a": np.array([b"x"])}, 4),
        "records": pickle.dumps({"a": np.zeros(3, [("x", "f4")])}, 4),
        "dates": pickle.dumps({"a": np.zeros(3, "M8[s]")}, 4),
        "complex": pickle.dumps({"a": np.zeros(3, complex)}, 4),
        "void": pickle.dumps({"a": np.zeros(3, "V8")}, 4),
        "masked": pickle.dumps({"a": np.ma.masked_array([1.0], [True])}, 4),
        "a set": pickle.dumps({"a": {1, 2}}, 4),
        "a class": pickle.dumps({"a": np.float32}, 4),
        "a random state": pickle.dumps({"a": np.random.default_rng()}, 4),
        "one array": pickle.dumps(np.ones(3), 4),
        "cut in pieces": pickle.dumps({"a@@.0": np.ones(3), "UnpackBigParamInfor@@": {"a": {}}}, 2),
        "short data": entry(array(b"K\x0d\x85", "f4", twelve)),
        "long data": entry(array(b"K\x0b\x85", "f4", twelve)),
        "huge shape": entry(array(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", "f4", twelve)),
        "huge shapes": entry(array(b"(" + b"J\xff\xff\xff\x7f" * 8 + b"t", "f4", twelve)),
        "negative shape": entry(array(b"J\xf4\xff\xff\xff\x85", "f4", twelve)),
        "negative shapes": entry(array(b"J\xfd\xff\xff\xffJ\xfc\xff\xff\xff\x86", "f4", twelve)),
        "nan shape": entry(array(b"G\x7f\xf8\0\0\0\0\0\0\x85", "f4", twelve)),
        "no shape": entry(array(b"N", "f4", twelve)),
        "100 dimensions": entry(array(b"(" + b"K\x01" * 100 + b"t", "f4", raw(bytes(4)))),
        "unknown dtype": entry(array(b"K\x0c\x85", "q9", twelve)),
        "dtype of a list": entry(array(b"K\x0c\x85", "f4,O8", twelve)),
        "object dtype with bytes": entry(array(b"K\x06\x85", "O8", twelve)),
        "data is a list": entry(array(b"K\x0c\x85", "f4", b"]")),
        "data is None": entry(array(b"K\x0c\x85", "f4", b"N")),
        "data beyond latin-1": entry(array(b"K\x01\x85", "u1", text("中"))),
        "data too short as text": entry(array(b"\x8a\x04\x00\x20\x00\x00\x85", "u1", text(long_text)[:-1] + b"x")),
        "data no UTF-8": entry(array(b"M\x88\x13\x85", "u1", b"X\x10\x27\x00\x00" + b"\xff" * 10_000)),
        "data far beyond latin-1": entry(array(b"M\x88\x13\x85", "u1", text("中" * 3000 + "x" * 500))),
        "state of version 2": entry(array(b"K\x0c\x85", "f4", twelve, version=b"K\x02")),
        "state twice": entry(
            array(b"K\x0c\x85", "f4", twelve) + b"(K\x01K\x0c\x85" + dtype("f4") + b"\x89" + twelve + b"tb"
        ),
        "no state": entry(call(name("numpy.core.multiarray", "_reconstruct"), b"N", b"N", b"N")),
        "state is a dict": entry(call(name("numpy.core.multiarray", "_reconstruct")) + b"}b"),
        "dtype is a text": entry(
            call(name("numpy.core.multiarray", "_reconstruct"))
            + b"(K\x01K\x0c\x85"
            + text("f4")
            + b"\x89"
            + twelve
            + b"tb"
        ),
        "call an array class": entry(call(name("numpy", "ndarray"), b"K\x05\x85")),
        "buffer of nothing": entry(call(frombuffer)),
        "buffer in order X": entry(call(frombuffer, twelve, dtype("f4"), b"K\x0c\x85", text("X"))),
        "buffer in a list of orders": entry(call(frombuffer, twelve, dtype("f4"), b"K\x0c\x85", b"]")),
        "buffer with wrong axes": entry(
            call(frombuffer, twelve, dtype("f4"), b"K\x03K\x04\x86", text("K"), b"K\x00K\x00\x86")
        ),
        "buffer with far axes": entry(
            call(frombuffer, twelve, dtype("f4"), b"K\x03K\x04\x86", text("K"), b"K\x00K\x07\x86")
        ),
        "buffer with text axes": entry(
            call(frombuffer, twelve, dtype("f4"), b"K\x03K\x04\x86", text("K"), text("0") + text("1") + b"\x86")
        ),
        "buffer with true axes": entry(
            call(frombuffer, twelve, dtype("f4"), b"K\x03K\x04\x86", text("K"), b"\x89\x88\x86")
        ),
        "tuple of one": entry(call(name("builtins", "tuple"), text("a") + b"\x85")),
        "tuple of nothing": entry(call(name("builtins", "tuple"))),
        "tuple of a dict": entry(call(name("builtins", "tuple"), b"}")),
        "tuple of texts": entry(call(name("__builtin__", "tuple"), text("a") + text("b") + b"\x86")),
        "a storage reference": entry(text("0") + b"Q"),
        "a torch tensor": entry(call(name("torch._utils", "_rebuild_tensor"), b"N", b"K\x00", b")", b")")),
        "bytes after the end": pickle.dumps({"a": np.ones(3)}, 4) + b"more",
        "two pickles": pickle.dumps({"a": np.ones(3)}, 4) * 2,
        "150000 times one array": PROTO + b"}" + text("a") + b"](" + many + b"h\x00" * 150_000 + b"es.",
        "400000 long names": PROTO + b"}" + text("k" * 400) + b"](" + many + b"h\x00" * 400_000 + b"es.",
        "endless array names": PROTO + b"}q\x01" + text("k" * 600) + array(b"K\x0c\x85", "f4", twelve) + b"s.",
    }


def torch_legacy() -> dict[str, bytes]:
    """Legacy files whose pickles are fine and whose parts are not."""
    good = make.pth_legacy({"a": make.Tensor(ONES)})
    data, _ = make.pickled({"a": make.Tensor(ONES)}, legacy=True)
    head, body = make.legacy_head(), struct.pack("<q", 12) + ONES.tobytes()
    magic, protocol = pickle.dumps(make.MAGIC, 2), pickle.dumps(1001, 2)
    keys = pickle.dumps(["0"], 2)
    return {
        "other protocol": good.replace(protocol, pickle.dumps(1002, 2)),
        "system is a list": magic + protocol + pickle.dumps([], 2),
        "system is a call": magic + protocol + entry(call(name("os", "system"), text("true"))),
        "big endian": make.legacy_head(little_endian=False) + data + keys + body,
        "magic alone": magic,
        "head alone": head,
        "no keys": head + data,
        "keys are a dict": head + data + pickle.dumps({}, 2) + body,
        "keys are numbers": head + data + pickle.dumps([0], 2) + body,
        "keys are lists": head + data + pickle.dumps([["0"]], 2) + body,
        "a key too many": head + data + pickle.dumps(["0", "1"], 2) + body + body,
        "a key twice": head + data + pickle.dumps(["0", "0"], 2) + body + body,
        "another key": head + data + pickle.dumps(["1"], 2) + body,
        "keys call": head + data + entry(call(name("os", "system"), text("true"))) + body,
        "negative count": head + data + keys + struct.pack("<q", -1) + ONES.tobytes(),
        "huge count": head + data + keys + struct.pack("<q", 1 << 62) + ONES.tobytes(),
        "smaller count": head + data + keys + struct.pack("<q", 11) + ONES.tobytes(),
        "short storage": head + data + keys + body[:-1],
        "bytes after the end": good + b"\0",
        "a second file after the end": good + good,
    }
