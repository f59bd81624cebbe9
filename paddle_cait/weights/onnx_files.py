"""ONNX models that PyTorch exported: their weights under the names and in the orientation of the state dict.

The exporter keeps a parameter's name where the graph uses the parameter itself. What it folded loses its name
(``onnx::MatMul_123``). Two kinds of these get it back; any other anonymous tensor may be the result of arithmetic
(BatchNorm folded into a convolution, a joined bias, an affine-free norm's ones) and is left out:

* the matrix of a Linear, stored [in, out] as the right operand of MatMul or Gemm. Its name is that of the bias which is
  added next, if that belongs to the module which the node's name tells (``/blocks/blocks.0/attn/qkv/MatMul``), or else
  that module's own, if all nodes of the module together are a Linear: MatMul and Add. It is read as [out, in].
* a position table cut in two: [1, k, D] for the class token joins [1, n, D] that went through Resize.

Equal parameters are stored once, the others are Identity nodes: each gets its own name. A shared matrix is listed
under each of its names; where two tensors claim one name, neither has it. ``metadata["left_out"]`` lists the rest.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, Callable

import numpy as np

from paddle_cait.errors import WeightsError
from paddle_cait.weights.byte_source import ByteSource
from paddle_cait.weights.onnx_names import FLOATS, NAME, Graph
from paddle_cait.weights.protobuf import LENGTH, VARINT, Model, Node, Reader, Tensor, read_model, read_varints
from paddle_cait.weights.strided import ReadInto, read_strided
from paddle_cait.weights.tensors import DTYPES, Checkpoint, TensorRef, as_bytes, nbytes_of, numel_of, quote

# TensorProto.DataType -> dtype name, and the field that holds it where it is not in raw_data.
_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
_RAW, _INT32 = 9, 5
_PACKED = (_INT32, 7, 11)  # these hold numbers of variable length
_TYPED = {"float32": 4, "float64": 10, "int64": 7, "uint32": 11, "uint64": 11}

# ModelProto's fields and how each is written.
_MODEL = {1: VARINT, 5: VARINT, **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), LENGTH)}
_IR_VERSION, _GRAPH = 1, 7

_QUANTISED = re.compile(r"(Dynamic)?QuantizeLinear|DequantizeLinear|QLinear\w+|(MatMul|Conv)Integer")
_NO_NAME = re.compile(r"\d*|val_\d+")  # PyTorch before 1.13, and the exporter over torch.export


def is_onnx(source: ByteSource) -> bool:
    """Is the file a series of ModelProto's fields, a version and a graph among them? It may be cut short or damaged."""
    reader = Reader(source, most=100_000)
    found = set()
    try:
        for number, wire, value in reader.fields(source.size):
            if _MODEL.get(number, wire) != wire or (number == _IR_VERSION and not 0 < value < 128):
                return False
            found.add(number)
    except WeightsError:
        return _IR_VERSION in found and _GRAPH in found | {reader.number}
    return {_IR_VERSION, _GRAPH} <= found


def open_onnx(source: ByteSource) -> Checkpoint:
    """The parameters of a model exported by PyTorch: a flat tree {name in the state dict: tensor}.

    Parameters the graph does not use are not in the file. Linear matrices are [out, in]. ``metadata``: ``producer``,
    and ``left_out`` with the tensors whose name cannot be told. Raises :class:`WeightsError` for damaged, quantised
    and fused models, and if external data is missing.
    """
    model = read_model(source)
    _refuse_processed(source, model.nodes)
    constants = _constants(source, model)
    named = {name: tensor for name, tensor in constants.items() if _is_parameter(name, tensor)}
    tree: dict[Any, Any] = {name: _ref(source, name, tensor) for name, tensor in named.items()}
    graph = Graph(model.nodes, constants, named)
    used = set(map(id, named.values()))
    for name, claims in graph.matrices().items():
        matrix, turned = claims[0]
        if name not in tree and all(claim[0] is matrix for claim in claims):
            tree[name] = _ref(source, name, matrix, turned)
            used.add(id(matrix))
    for name, first, rest, order in graph.tables():
        if name not in tree:
            tree[name] = _table(name, _ref(source, name, first), _ref(source, name, rest), order)
            used |= {id(first), id(rest)}
    if not tree:
        raise source.error("holds no parameter under its PyTorch name; export the model with torch.onnx.export")
    metadata = {"producer": model.producer, "left_out": _left_out(model, used)}
    return Checkpoint(source.path, "onnx", tree, {k: v for k, v in metadata.items() if v}, on_close=source.close)


def _refuse_processed(source: ByteSource, nodes: Iterable[Node]) -> None:
    for node in nodes:
        if _QUANTISED.fullmatch(node.op):
            raise source.error(f"is quantised (its graph has {node.op}); give the float model it was made from")
        if node.op.startswith("com.microsoft"):
            problem = f"was rewritten for ONNX Runtime (its graph has {quote(node.op)}), which merges weights"
            raise source.error(f"{problem}; give the model as PyTorch exported it")


def _constants(source: ByteSource, model: Model) -> dict[str, Tensor]:
    """Every constant tensor of the graph under each of its names."""
    found: dict[str, Tensor] = {}

    def add(name: str, tensor: Tensor) -> None:
        if name in found:
            raise source.error(f"tensor {quote(name)}: the graph has two of that name")
        found[name] = tensor

    for tensor in model.initialisers:
        add(tensor.name, tensor)
    for node in model.nodes:
        if node.op == "Constant" and node.value is not None and node.outputs:
            add(node.outputs[0], node.value)
        elif node.op == "Identity" and node.outputs and node.inputs and node.inputs[0] in found:
            add(node.outputs[0], found[node.inputs[0]])
    return found


def _is_parameter(name: str, tensor: Tensor) -> bool:
    """A name without a dot may be a parameter of the outermost module, or some tool's list of axes."""
    if not NAME.fullmatch(name) or _NO_NAME.fullmatch(name):
        return False
    return "." in name or tensor.code in FLOATS


def _left_out(model: Model, used: set[int]) -> str:
    """The floating-point initialisers that are not among the ``used``; single numbers aside."""
    rest = [t for t in model.initialisers if id(t) not in used and t.code in FLOATS and numel_of(t.shape) > 1]
    shown = ", ".join(f"{quote(tensor.name, 80)} {quote(tensor.shape)}" for tensor in rest[:20])
    return f"{shown} and {len(rest) - 20} more" if len(rest) > 20 else shown


def _table(name: str, first: TensorRef, rest: TensorRef, order: tuple[int, ...]) -> TensorRef:
    width = first.shape[2]
    count = math.prod(rest.shape[axis] for axis in order[1:-1])

    def read() -> np.ndarray:
        patches = rest.read().transpose(order).reshape(1, count, width)
        return np.ascontiguousarray(np.concatenate([first.read(), patches], axis=1))

    return TensorRef(name, (1, first.shape[1] + count, width), first.dtype, read)


def _ref(source: ByteSource, name: str, tensor: Tensor, turned: bool = False) -> TensorRef:
    """The tensor as ``name``; ``turned``: a matrix [in, out] that is read as [out, in]."""
    where = f"tensor {quote(name)}"
    dtype = _DTYPES.get(tensor.code)
    if dtype is None:
        raise source.error(f"{where}: data type {tensor.code}, expected one of {', '.join(_DTYPES.values())}")
    shape = tensor.shape[::-1] if turned else tensor.shape
    if tensor.external is None and tensor.data is not None and tensor.data[0] in _PACKED:
        return TensorRef(name, shape, dtype, _number_reader(source, where, tensor, dtype, turned))
    read_into = _byte_reader(source, where, tensor, dtype)

    def read() -> np.ndarray:
        if turned:
            return read_strided(read_into, DTYPES[dtype], 0, shape, (1, shape[0]))
        array = np.empty(shape, DTYPES[dtype])
        read_into(0, as_bytes(array))
        return array

    return TensorRef(name, shape, dtype, read)


def _byte_reader(source: ByteSource, where: str, tensor: Tensor, dtype: str) -> ReadInto:
    """Reads raw_data, float_data, double_data or external data: all are the tensor's little-endian bytes."""
    wanted = nbytes_of(tensor.shape, dtype)
    if tensor.external is not None:
        return _beside(source, where, tensor.external, wanted)
    number, start, stop = tensor.data or (_RAW, 0, 0)
    if number not in (_RAW, _TYPED.get(dtype)):
        raise source.error(f"{where}: its data lies in a field that is not for {dtype}")
    if stop - start != wanted:
        raise source.error(f"{where}: {stop - start} bytes for {dtype} {quote(tensor.shape)}, which takes {wanted}")
    return lambda offset, buffer: source.read_into(start + offset, buffer)


def _number_reader(
    source: ByteSource, where: str, tensor: Tensor, dtype: str, turned: bool
) -> Callable[[], np.ndarray]:
    """Reads int32_data, int64_data or uint64_data. 16-bit floats lie there as the numbers that their bits are."""
    number, start, stop = tensor.data or (0, 0, 0)
    count = numel_of(tensor.shape)
    if number != _TYPED.get(dtype, _INT32):
        raise source.error(f"{where}: its data lies in a field that is not for {dtype}")
    if not count <= stop - start <= 10 * count:
        raise source.error(f"{where}: {stop - start} bytes of packed numbers for {dtype} {quote(tensor.shape)}")
    as_number = DTYPES[dtype] if dtype == "bool" else np.dtype(f"<u{DTYPES[dtype].itemsize}")

    def read() -> np.ndarray:
        flat = np.empty(count, as_number)
        problem = read_varints(source, start, stop, flat)
        if problem:
            raise source.error(f"{where}: {problem}; the file is damaged")
        array = flat.view(DTYPES[dtype]).reshape(tensor.shape)
        return np.ascontiguousarray(array.T) if turned else array

    return read


def _beside(source: ByteSource, where: str, entries: dict[str, str], wanted: int) -> ReadInto:
    """Reads ``wanted`` bytes of external data from a file in the model's own folder, which is opened when needed."""
    numbers = [entries.get("offset", "0"), entries.get("length", str(wanted))]
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in numbers):
        raise source.error(f"{where}: offset {quote(numbers[0])} and length {quote(numbers[1])}, expected numbers")
    offset, length = map(int, numbers)
    location = entries.get("location", "")
    path, size = _side_file(source, where, location)
    if length != wanted:
        raise source.error(f"{where}: {length} bytes of external data, expected {wanted}")
    if offset + length > size:
        missing = offset + length - size
        raise source.error(f"{where}: {missing} bytes are missing in {quote(location)}; download or copy it again")

    def read_into(start: int, buffer: memoryview) -> None:
        source.read(0, 0)  # refuses if the checkpoint was closed
        with closing(ByteSource(path)) as side:
            side.read_into(offset + start, buffer)

    return read_into


def _side_file(source: ByteSource, where: str, location: str) -> tuple[Path, int]:
    """Path and size of a file with external data. The model says where it is, so it is trusted with one folder only."""
    relative = PurePosixPath(location)
    if not relative.name or relative.is_absolute() or ".." in relative.parts or "\\" in location:
        raise source.error(f"{where}: external data in {quote(location)}, expected a file in the model's folder")
    folder = source.path.parent.resolve()
    try:
        path = (folder / location).resolve(strict=True)
        info = path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # no such file; a NUL; a ring of links
        message = f"{where}: its data is in {quote(location)}, which is not beside the model; put it there"
        raise source.error(message) from error
    if folder not in path.parents or not stat.S_ISREG(info.st_mode):
        message = f"{where}: its data is in {quote(location)}, which is a link out of the model's folder or no file"
        raise source.error(f"{message}; copy it there")
    return path, info.st_size
