"""Tiny ONNX models written without the onnx package: good ones, and hostile ones that must be refused.

A message is a list of (field number, value): an int, bytes, a text, or another message. ``Raw`` bytes are put as is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

CODES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
}  # fmt: skip
ONES = np.ones((3, 4), np.float32)
Message = list[tuple[int, Any]]


class Raw(bytes):
    """Bytes of a message that are written without key and length."""


def varint(value: int) -> bytes:
    value %= 1 << 64
    made = b""
    while value > 127:
        made += bytes([value & 127 | 128])
        value >>= 7
    return made + bytes([value])


def encode(message: Message) -> bytes:
    made = []
    for number, value in message:
        if isinstance(value, Raw):
            made.append(bytes(value))
        elif isinstance(value, int):
            made.append(varint(number << 3) + varint(value))
        else:
            data = encode(value) if isinstance(value, list) else value.encode() if isinstance(value, str) else value
            made.append(varint(number << 3 | 2) + varint(len(data)) + data)
    return b"".join(made)


def tensor(name: str, array: np.ndarray, dtype: str | None = None, typed: bool = False) -> Message:
    """A TensorProto with raw_data, or with the field of numbers that its dtype has."""
    dtype = dtype or array.dtype.name
    return [*head(name, array.shape, dtype), typed_data(array, dtype) if typed else (9, array.tobytes())]


def head(name: str, shape: Sequence[int], dtype: str = "float32") -> Message:
    return [*((1, size) for size in shape), (2, CODES[dtype]), (8, name)]


def typed_data(array: np.ndarray, dtype: str) -> tuple[int, bytes]:
    if dtype in ("float32", "float64"):
        return 4 if dtype == "float32" else 10, array.tobytes()
    numbers = array.view(np.uint16) if dtype == "float16" else array
    packed = b"".join(varint(int(number)) for number in numbers.reshape(-1))
    return {"int64": 7, "uint32": 11, "uint64": 11}.get(dtype, 5), packed


def external(name: str, shape: Sequence[int], **entries: Any) -> Message:
    return [*head(name, shape), *((13, [(1, key), (2, str(value))]) for key, value in entries.items()), (14, 1)]


def node(
    op: str, inputs: Sequence[str], output: str = "", name: str = "", domain: str = "", trans_b: int | None = None
) -> Message:
    """A NodeProto named as PyTorch names it: ``/scope/Op``, whose output is ``/scope/Op_output_0``."""
    made: Message = [*((1, value) for value in inputs), (2, output or f"{name}_output_0"), (3, name), (4, op)]
    if trans_b is not None:
        made.append((5, [(1, "transB"), (3, trans_b), (20, 2)]))
    return made + ([(7, domain)] if domain else [])


def constant(output: str, value: Message) -> Message:
    return [(2, output), (4, "Constant"), (5, [(1, "value"), (5, value), (20, 4)])]


def graph(nodes: Sequence[Message], tensors: Sequence[Message]) -> Message:
    return [*((1, each) for each in nodes), (2, "main_graph"), *((5, each) for each in tensors), (11, [(1, "x")])]


def tree(nodes: Sequence[Message], tensors: Sequence[Message]) -> Message:
    return [(1, 8), (2, "pytorch"), (3, "2.7.0"), (8, [(1, ""), (2, 17)]), (7, graph(nodes, tensors))]


def model(nodes: Sequence[Message], tensors: Sequence[Message]) -> bytes:
    return encode(tree(nodes, tensors))


def good() -> Message:
    """One of everything: kept, folded and equal parameters, typed data, a table in two pieces, constants."""
    f4 = np.arange(96, dtype=np.float32)
    at = "/blocks/blocks.0"
    nodes = [
        constant("/Constant_output_0", tensor("", np.array([1.5], np.float32))),
        node("Identity", ["norm.weight"], "norm2.weight"),
        node("Resize", ["onnx::Resize_3", "", "/Constant_output_0"], name="/Resize"),
        node("Transpose", ["/Resize_output_0"], name="/Transpose"),
        node("Reshape", ["/Transpose_output_0", "shape"], name="/Reshape"),
        node("Concat", ["onnx::Concat_4", "/Reshape_output_0"], name="/Concat"),
        node("MatMul", ["x", "onnx::MatMul_1"], name=f"{at}/qkv/MatMul"),
        node("Add", ["blocks.0.qkv.bias", f"{at}/qkv/MatMul_output_0"], name=f"{at}/qkv/Add"),
        node("MatMul", [f"{at}/qkv/Add_output_0", "onnx::MatMul_2"], name=f"{at}/fc/MatMul"),
        node("Gemm", [f"{at}/fc/MatMul_output_0", "head.weight", "head.bias"], name="/head/Gemm", trans_b=1),
    ]
    tensors = [
        tensor("norm.weight", f4[:4]),
        tensor("head.weight", f4[:12].reshape(3, 4), typed=True),
        tensor("head.bias", f4[:3].astype(np.float16), typed=True),
        tensor("blocks.0.qkv.bias", f4[:6]),
        tensor("blocks.0.index", np.array([-1, 2]), typed=True),
        tensor("onnx::MatMul_1", f4[:24].reshape(4, 6)),
        tensor("onnx::MatMul_2", f4[:24].reshape(6, 4).astype(np.float16), typed=True),
        tensor("onnx::Resize_3", f4[:16].reshape(1, 4, 2, 2)),
        tensor("onnx::Concat_4", f4[:4].reshape(1, 1, 4)),
    ]
    return tree(nodes, tensors)


def hostile() -> dict[str, Callable[[], bytes]]:
    """Name -> function that makes the file's bytes."""
    whole = encode(good())
    first = head("a.b", [3, 4])

    def one(*fields: Any) -> Callable[[], bytes]:
        return lambda: model([], [list(fields)])

    def raw(data: bytes) -> Callable[[], bytes]:
        return lambda: encode([*good(), (0, Raw(data))])

    def inside(data: bytes) -> Callable[[], bytes]:
        """Behind the last tensor of the graph."""
        return lambda: encode([*good()[:-1], (7, [*good()[-1][1], (0, Raw(data))])])

    def shape(*sizes: int) -> Callable[[], bytes]:
        return one(*head("a.b", sizes), (9, ONES.tobytes()))

    def dtype(code: int) -> Callable[[], bytes]:
        return one((1, 3), (1, 4), (2, code), (8, "a.b"), (9, ONES.tobytes()))

    def numbers(data: bytes, kind: str = "int64", field: int = 7) -> Callable[[], bytes]:
        return one(*head("a.b", [3, 4], kind), (field, data))

    def placed(location: str, **entries: Any) -> Callable[[], bytes]:
        return lambda: model([], [external("a.b", [3, 4], location=location, **entries)])

    def operator(op: str, domain: str = "") -> Callable[[], bytes]:
        return lambda: model([node(op, ["a.b"], "y", domain=domain)], [tensor("a.b", ONES)])

    return {
        "graph beyond the file": lambda: whole[:-20],
        "graph of 2**63": lambda: b"\x08\x08\x3a" + varint(1 << 63) + bytes(90),
        "graph of 2**64 - 1": lambda: b"\x08\x08\x3a" + varint(-1) + bytes(90),
        "no graph": lambda: encode(good()[:-1]),
        "two graphs": lambda: encode([*good(), good()[-1]]),
        "graph is empty": lambda: model([], []),
        "version 0": lambda: encode([(1, 0), *good()[1:]]),
        "version is a text": lambda: encode([(1, "8"), *good()[1:]]),
        "key 0": raw(b"\0\0"),
        "group": raw(b"\x73\x74"),
        "wire type 7": raw(b"\x77"),
        "key without a value": raw(b"\x70"),
        "key of 11 bytes": raw(b"\xff" * 10 + b"\1"),
        "key of 70 bits": raw(b"\xff" * 9 + b"\x7f"),
        "number without an end": raw(b"\x70" + b"\x80" * 100),
        "fixed field cut": raw(b"\x71\0\0\0"),
        "graph: key 0": inside(b"\0"),
        "graph: tensor beyond it": inside(b"\x2a\x64\x08"),
        "graph: node of 2**64 - 1": inside(b"\x0a" + varint(-1)),
        "graph: number over its end": inside(b"\x50\x80"),
        "sparse tensor": inside(b"\x7a\0"),
        "10 million fields": inside(b"\x50\1" * 10_000_000),
        "10 million fields outside": lambda: encode([(0, Raw(b"\x70\1" * 10_000_000)), *good()]),
        "10 million nodes": inside(b"\x0a\0" * 10_000_000),
        "10 million tensors": inside(b"\x2a\0" * 10_000_000),
        "half a million inputs": inside((b"\x0a\xf8\x01" + b"\x0a\2ab" * 62) * 9_000),
        "300000 sizes": lambda: model([], [[(1, 1)] * 300_000 + first]),
        "10 million packed sizes": one((1, b"\1" * 10_000_000), *first),
        "20000 external entries": lambda: model([], [[(13, [(1, f"k{i}")]) for i in range(20_000)] + first]),
        "9000 deep scopes": lambda: _deep_scopes(9_000),
        "graphs in graphs": lambda: _graphs_in_graphs(5000),
        "50 MB name": one((8, "x" * 50_000_000), *first),
        "name of 600 letters": one(*head("a." + "x" * 600, [3, 4]), (9, ONES.tobytes())),
        "name no UTF-8": one((8, b"a.\xff"), (1, 3), (2, 1), (9, bytes(12))),
        "name twice": lambda: model([], [tensor("a.b", ONES)] * 2),
        "name of a Constant too": lambda: model([constant("a.b", tensor("", ONES))], [tensor("a.b", ONES)]),
        "name of an Identity too": lambda: model([node("Identity", ["a.b"], "a.b")], [tensor("a.b", ONES)]),
        "nothing has a name": lambda: model([], [tensor("onnx::Conv_1", ONES), tensor("/a/b", ONES)]),
        "names of terminal codes": lambda: model([], [tensor("a.\x1b[2J", ONES)]),
        "scope of two lines": lambda: model([node("MatMul", ["x", "1"], name="/a\nb/MatMul")], [tensor("1", ONES)]),
        "shape too large": shape(3, 5),
        "shape too small": shape(3, 3),
        "shape negative": shape(-12),
        "shape of negatives": shape(-3, -4),
        "shape of 2**63": shape(1 << 63),
        "shape of products": shape(1 << 32, 1 << 32, 1 << 32),
        "shape of products and 0": shape(1 << 62, 0),
        "shape of 33 dimensions": shape(*[1] * 33),
        "packed sizes over the end": one((1, b"\x80"), *first),
        "data missing": one(*first),
        "data twice": one(*first, (9, ONES.tobytes()), (9, ONES.tobytes())),
        "data of two kinds": one(*first, (9, ONES.tobytes()), (4, ONES.tobytes())),
        "floats not packed": one(*first, *((0, Raw(b"\x25" + struct.pack("<f", 1))) for _ in range(12))),
        "numbers not packed": one(*head("a.b", [12], "int64"), *((7, 1) for _ in range(12))),
        "floats too few": one(*first, (4, bytes(44))),
        "floats in the doubles' field": one(*first, (10, ONES.tobytes())),
        "floats in the integers' field": one(*first, (7, ONES.tobytes())),
        "int8 in the floats' field": one(*head("a.b", [12], "int8"), (4, bytes(12))),
        "external numbers": placed("a", offset=1 << 70),
        "numbers too few": numbers(bytes(11)),
        "numbers too many": numbers(bytes(13)),
        "numbers too many by far": numbers(bytes(1000)),
        "number does not end": numbers(bytes(11) + b"\x80"),
        "number of 11 bytes": numbers(bytes(11) + b"\x80" * 10 + b"\1"),
        "numbers of nothing": numbers(b"\x80" * 12),
        "half floats too few": numbers(b"\x80" * 11 + b"\1", "float16", 5),
        "dtype 0": dtype(0),
        "dtype text": dtype(8),
        "dtype complex": dtype(14),
        "dtype float8": dtype(17),
        "dtype int4": dtype(22),
        "dtype 2**63": dtype(1 << 63),
        "external: no location": lambda: model([], [external("a.b", [3, 4])]),
        "external: nothing there": placed("weights.bin"),
        "external: absolute": placed("/etc/hostname"),
        "external: above": placed("../weights.bin"),
        "external: above and back": placed("a/../../weights.bin"),
        "external: the folder": placed("."),
        "external: backslashes": placed("..\\weights.bin"),
        "external: NUL": placed("a\0b"),
        "external: 300 letters": placed("x" * 300),
        "external: 600 letters": placed("x" * 600),
        "external: offset beyond": placed("hostile", offset=1 << 60),
        "external: offset negative": placed("hostile", offset=-1),
        "external: offset a word": placed("hostile", offset="²"),
        "external: offset of 5000 digits": placed("hostile", offset="9" * 500),
        "external: other length": placed("hostile", length=12),
        "external: end beyond": placed("hostile", offset=90, length=48),
        "quantised weights": operator("DequantizeLinear"),
        "quantised matmul": operator("QLinearMatMul"),
        "quantised dynamically": operator("DynamicQuantizeLinear"),
        "quantised integers": operator("MatMulInteger"),
        "fused for a runtime": operator("Attention", "com.microsoft"),
        "blocked for a runtime": operator("Conv", "com.microsoft.nchwc"),
    }


def _deep_scopes(count: int) -> bytes:
    """Nodes whose names have 250 scopes each, around folded matrices that could belong to any of them."""
    scope = "/a" * 250
    nodes = [node("MatMul" if i % 2 else "Relu", ["x", "1"], f"y{i}", f"{scope}/{i}") for i in range(count)]
    return model(nodes, [tensor("1", ONES)])


def _graphs_in_graphs(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = encode([(1, [(4, "If"), (5, [(1, "then_branch"), (6, data)])])])
    return encode([(1, 8), (7, data)])
