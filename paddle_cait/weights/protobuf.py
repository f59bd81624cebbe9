"""The protobuf wire format, and the messages of an ONNX model that lead to its weights: graph, nodes, tensors.

Of anything that may be large only its place in the file is kept. The code descends exactly as deep as these messages
are nested (six levels); whatever else a file holds is stepped over by its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from paddle_cait.errors import WeightsError
from paddle_cait.weights.byte_source import ByteSource, Window
from paddle_cait.weights.tensors import MAX_NAME, MAX_TENSORS, is_shape, quote

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are long gone
MAX_FIELDS = 2_000_000  # bounds the time that a file of tiny fields can take; a ViT-S has 30 thousand
MAX_NODES = 100_000
MAX_EDGES = 5 * MAX_NODES  # inputs and outputs of all nodes
_MAX_DIMS = 32
_PIECE = 1 << 18  # bytes of packed numbers decoded at once


class Tensor(NamedTuple):
    """A TensorProto. ``data``: (field number, start, stop) in the model file; ``external``: where else it lies."""

    name: str
    shape: tuple[int, ...]
    code: int  # TensorProto.DataType
    data: tuple[int, int, int] | None
    external: dict[str, str] | None


class Node(NamedTuple):
    """A NodeProto. ``op`` has its domain in front unless it is ONNX's own."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    trans_b: bool  # Gemm
    value: Tensor | None  # Constant


@dataclass
class Model:
    producer: str = ""
    nodes: list[Node] = field(default_factory=list)
    initialisers: list[Tensor] = field(default_factory=list)


class Reader:
    """The fields of nested messages, in the file's order. Every failure is a :class:`WeightsError`."""

    def __init__(self, source: ByteSource, most: int = MAX_FIELDS) -> None:
        self.source = source
        self.number = 0  # of the field that was begun last
        self._window = Window(source, 0, source.size)
        self._left = most

    @property
    def position(self) -> int:
        return self._window.position

    def fields(self, stop: int) -> Iterator[tuple[int, int, int]]:
        """(field number, wire type, value) up to the offset ``stop``, where the message ends.

        The value of a ``VARINT`` field is its number; of any other field it is the offset where its bytes stop. They
        begin at ``position``; what the caller leaves of them is skipped.
        """
        while self.position < stop:
            self._left -= 1
            if self._left < 0:
                raise self.source.error("has more fields than any model")
            key = self.varint()
            self.number, wire = key >> 3, key & 7
            if self.number == 0 or wire not in (VARINT, FIXED64, LENGTH, FIXED32):
                raise self.damaged(f"no field begins with {key}")
            if wire == VARINT:
                yield self.number, wire, self.varint()
                continue
            size = self.varint() if wire == LENGTH else 8 if wire == FIXED64 else 4
            self._window.require(size)
            end = self.position + size
            if end > stop:
                raise self.damaged(f"a field of {size} bytes in a message that ends at {stop}")
            yield self.number, wire, end
            self._window.skip(end - self.position)
        if self.position != stop:
            raise self.damaged(f"a message goes on behind its end at {stop}")

    def varint(self) -> int:
        """An unsigned number of up to 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self._window.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128 and value < 1 << 64:
                return value
        raise self.damaged("a number of more than 64 bits")

    def text(self, stop: int) -> str:
        size = stop - self.position
        if size > MAX_NAME:
            raise self.source.error(f"has a name of {size} bytes at {self.position}, expected at most {MAX_NAME}")
        try:
            return self._window.take(size).decode()
        except UnicodeDecodeError as error:
            raise self.damaged("a name that is no UTF-8") from error

    def damaged(self, what: str) -> WeightsError:
        return self.source.error(f"is damaged before byte {self.position}: {what}; download or copy it again")


def read_model(source: ByteSource) -> Model:
    """The graph of an ONNX model: its nodes and where its tensors lie. Raises :class:`WeightsError`."""
    reader = Reader(source)
    model = Model()
    texts = {2: "", 3: ""}  # producer_name, producer_version
    graphs = 0
    for number, wire, stop in reader.fields(source.size):
        if wire == LENGTH and number in texts:
            texts[number] = reader.text(stop)
        elif wire == LENGTH and number == 7:
            graphs += 1
            _graph(reader, stop, model)
    if graphs != 1:
        raise source.error(f"is an ONNX model with {graphs} graphs, expected one")
    model.producer = f"{texts[2]} {texts[3]}".strip()
    return model


def _graph(reader: Reader, end: int, model: Model) -> None:
    edges = 0
    for number, wire, stop in reader.fields(end):
        if wire != LENGTH:
            continue
        if number == 1:
            node = _node(reader, stop)
            edges += len(node.inputs) + len(node.outputs)
            model.nodes.append(node)
        elif number == 5:
            model.initialisers.append(_tensor(reader, stop))
        elif number == 15:
            raise reader.source.error("holds sparse tensors, expected dense ones")
        if len(model.initialisers) > MAX_TENSORS or len(model.nodes) > MAX_NODES or edges > MAX_EDGES:
            raise reader.source.error("has more tensors, nodes or edges than any model")


def _node(reader: Reader, end: int) -> Node:
    ends: dict[int, list[str]] = {1: [], 2: []}
    texts = {3: "", 4: "", 7: ""}  # name, op_type, domain
    trans_b, value = False, None
    for number, wire, stop in reader.fields(end):
        if wire != LENGTH:
            continue
        if number in ends:
            ends[number].append(reader.text(stop))
        elif number in texts:
            texts[number] = reader.text(stop)
        elif number == 5:
            key, integer, tensor = _attribute(reader, stop)
            trans_b = integer != 0 if key == "transB" else trans_b
            value = tensor if key == "value" else value
    op = texts[4] if texts[7] in ("", "ai.onnx") else f"{texts[7]}::{texts[4]}"
    return Node(op, texts[3], ends[1], ends[2], trans_b, value)


def _attribute(reader: Reader, end: int) -> tuple[str, int, Tensor | None]:
    key, integer, tensor = "", 0, None
    for number, wire, value in reader.fields(end):
        if (number, wire) == (1, LENGTH):
            key = reader.text(value)
        elif (number, wire) == (3, VARINT):
            integer = value
        elif (number, wire) == (5, LENGTH):
            tensor = _tensor(reader, value)
    return key, integer, tensor


def _tensor(reader: Reader, end: int) -> Tensor:
    shape: list[int] = []
    name, code, external, problem = "", 0, False, ""
    data: tuple[int, int, int] | None = None
    entries: dict[str, str] = {}
    for number, wire, value in reader.fields(end):
        if number == 1 and wire in (VARINT, LENGTH) and len(shape) <= _MAX_DIMS:
            shape += [value] if wire == VARINT else _packed_dims(reader, value)
        elif (number, wire) == (2, VARINT):
            code = value
        elif (number, wire) == (8, LENGTH):
            name = reader.text(value)
        elif number in (4, 5, 7, 9, 10, 11):  # float, int32, int64, raw, double and uint64 data
            if wire != LENGTH or data is not None:
                problem = "its data is not in one piece; load and save the model with the onnx package"
            data = number, reader.position, value
        elif (number, wire) == (13, LENGTH):
            entries.update(_entry(reader, value))
        elif (number, wire) == (14, VARINT):
            external = value == 1
    sizes = tuple(size - (1 << 64) if size >> 63 else size for size in shape)
    if problem or not is_shape(sizes):
        raise reader.source.error(f"tensor {quote(name)}: {problem or f'impossible shape {quote(sizes)}'}")
    return Tensor(name, sizes, code, data, entries if external else None)


def _packed_dims(reader: Reader, stop: int) -> list[int]:
    sizes: list[int] = []
    while reader.position < stop and len(sizes) <= _MAX_DIMS:
        sizes.append(reader.varint())
    if reader.position > stop:
        raise reader.damaged("a number goes on behind the end of its list")
    return sizes


def _entry(reader: Reader, end: int) -> dict[str, str]:
    """One of the texts that say where external data lies; others are not kept."""
    texts = {1: "", 2: ""}
    for number, wire, stop in reader.fields(end):
        if number in texts and wire == LENGTH:
            texts[number] = reader.text(stop)
    return {texts[1]: texts[2]} if texts[1] in ("location", "offset", "length") else {}


def read_varints(source: ByteSource, start: int, stop: int, out: np.ndarray) -> str | None:
    """Fill the flat array ``out`` with the low bits of packed varints; what is wrong with them, or None."""
    filled = 0
    while start < stop:
        raw = np.frombuffer(source.read(start, min(_PIECE, stop - start)), np.uint8)
        ends = np.flatnonzero(raw < 128)
        begins = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))[: len(ends)]
        longest = int((ends - begins).max(initial=-1)) + 1
        if not 1 <= longest <= 10:
            return "a number that does not end"
        if filled + len(ends) > out.size:
            return f"more than the {out.size} numbers of its shape"
        values = np.zeros(len(ends), np.uint64)
        for index in range(longest):
            has = ends - begins >= index
            values[has] |= (raw[begins[has] + index] & 127).astype(np.uint64) << np.uint64(7 * index)
        out[filled : filled + len(ends)] = values.astype(out.dtype)
        filled += len(ends)
        start += int(ends[-1]) + 1
    return None if filled == out.size else f"{filled} numbers, expected {out.size}"
