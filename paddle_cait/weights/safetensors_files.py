"""The safetensors format: eight bytes of header length, a JSON header, the tensors' bytes without gaps."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from paddle_cait.errors import WeightsError
from paddle_cait.weights.byte_source import ByteSource
from paddle_cait.weights.tensors import (
    DTYPES,
    MAX_NAME,
    MAX_TENSORS,
    Checkpoint,
    OutTensor,
    Sink,
    TensorRef,
    as_bytes,
    is_shape,
    nbytes_of,
    quote,
)  # fmt: skip

MAX_HEADER = 100_000_000  # the format's own limit

# In the order in which the safetensors library lays tensors out: largest alignment first.
_DTYPES = {
    "U64": "uint64", "I64": "int64", "F64": "float64", "F32": "float32", "U32": "uint32", "I32": "int32",
    "BF16": "bfloat16", "F16": "float16", "U16": "uint16", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_CODES = {name: code for code, name in _DTYPES.items()}
_RANKS = {name: rank for rank, name in enumerate(_CODES)}


class _HeaderError(ValueError):
    """A header that json reads and the format forbids."""


def open_safetensors(source: ByteSource) -> Checkpoint:
    """The checkpoint in a safetensors file. Raises :class:`WeightsError` for any departure from the format."""
    length = struct.unpack("<Q", source.read(0, 8))[0]
    if length > MAX_HEADER:
        raise source.error(f"its header claims {length} bytes, expected at most {MAX_HEADER}")
    header = _parse(source, source.read(8, length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise source.error("its __metadata__ is no dict of texts")
    start = 8 + length
    tree: dict[Any, Any] = {}
    spans = []
    for name, entry in header.items():
        tree[name], begin = _tensor(source, start, name, entry)
        spans.append((begin, begin + tree[name].nbytes, name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise source.error(f"tensor {quote(name)}: begins at byte {begin} of the data, expected {position}")
        position = end
    if start + position != source.size:
        found = source.size - start - position
        problem = (
            f"{-found} bytes are missing; download it again" if found < 0 else f"{found} bytes follow the last tensor"
        )
        raise source.error(problem)
    return Checkpoint(source.path, "safetensors", tree, metadata, on_close=source.close)


def _parse(source: ByteSource, raw: bytes) -> dict[str, Any]:
    # Before json builds anything: a header of 100 MB could otherwise become gigabytes of empty lists.
    if raw.count(b"{") > MAX_TENSORS or raw.count(b"[") > 2 * MAX_TENSORS or raw.count(b",") > 20 * MAX_TENSORS:
        raise source.error(f"its header is too large for {MAX_TENSORS} tensors")
    try:
        header = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_small_integer,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except _HeaderError as error:
        raise source.error(f"its header {error}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, nested without end
        raise source.error("its header is no valid JSON; the file is damaged, download it again") from error
    if not isinstance(header, dict):
        raise source.error("its header is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _HeaderError("names something twice")
    return found


def _small_integer(text: str) -> int:
    if len(text) > 20:
        raise _HeaderError(f"has a number of {len(text)} digits")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise _HeaderError(f"has the number {quote(text)}, expected integers")


def _tensor(source: ByteSource, start: int, name: str, entry: object) -> tuple[TensorRef, int]:
    """The tensor that a header entry describes, and where in the data it begins."""
    where = f"tensor {quote(name)}"
    if len(name) > MAX_NAME or not name.isprintable():
        raise source.error(f"{where}: the name has {len(name)} letters, or unprintable ones")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise source.error(f"{where}: expected dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise source.error(f"{where}: dtype {quote(code)}, expected one of {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not is_shape(shape):
        raise source.error(f"{where}: impossible shape {quote(shape)}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not is_shape(offsets[:1]) or not is_shape(offsets[1:]):
        raise source.error(f"{where}: impossible data_offsets {quote(offsets)}")
    dtype = _DTYPES[code]
    begin, end = offsets
    wanted = nbytes_of(shape, dtype)
    if end - begin != wanted:
        raise source.error(f"{where}: {end - begin} bytes for {code} {quote(shape)}, which takes {wanted}")

    def read() -> np.ndarray:
        if start + end > source.size:
            raise source.error(f"{where}: lies beyond the end of the file")
        array = np.empty(tuple(shape), DTYPES[dtype])
        source.read_into(start + begin, as_bytes(array))
        return array

    return TensorRef(name, tuple(shape), dtype, read), begin


def write_safetensors(file: Sink, tensors: Sequence[OutTensor], metadata: Mapping[str, str]) -> None:
    """Write what the safetensors library would write, in its order; one tensor is in memory at a time.

    Raises :class:`WeightsError` for repeated names and for the reserved name ``__metadata__``.
    """
    ordered = sorted(tensors, key=lambda tensor: (_RANKS[tensor.dtype], tensor.name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for tensor in ordered:
        if tensor.name in header or tensor.name == "__metadata__":
            raise WeightsError(f"tensor name {quote(tensor.name)} is taken, choose another")
        offsets = [position, position + tensor.nbytes]
        header[tensor.name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        position = offsets[1]
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise WeightsError("a tensor name or metadata text is no valid Unicode") from error
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for tensor in ordered:
        file.write(tensor.data())
