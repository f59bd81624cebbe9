"""numpy's .npz: a zip of .npy members. Headers are parsed here: no Python literal is evaluated, no pickle read."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np

from paddle_cait.weights.byte_source import ByteSource
from paddle_cait.weights.numpy_nodes import dtype_name
from paddle_cait.weights.pickle_values import Refusal
from paddle_cait.weights.tensors import DTYPES, MAX_TENSORS, Checkpoint, TensorRef, as_bytes, is_shape, nbytes_of, quote
from paddle_cait.weights.zip_members import Member, ZipMembers

MAX_HEADER = 10_000  # numpy's own limit

_FIELDS = re.compile(r"'descr':'([^']*)'|'fortran_order':(True|False)|'shape':\(([0-9L,]*)\)")


def is_npz(archive: ZipMembers) -> bool:
    return bool(archive.members) and all(name.endswith(".npy") for name in archive.members)


def open_npz(source: ByteSource, archive: ZipMembers) -> Checkpoint:
    """The checkpoint in an .npz archive: a flat tree whose names lost their ``.npy``. Raises :class:`WeightsError`."""
    if len(archive.members) > MAX_TENSORS:
        raise source.error(f"holds {len(archive.members)} arrays, no model has that many")
    tree: dict[Any, Any] = {}
    for member in archive.members.values():
        name = member.name[: -len(".npy")]
        tree[name] = _array(archive, member, name)
    return Checkpoint(source.path, "npz", tree, on_close=source.close)


def _array(archive: ZipMembers, member: Member, name: str) -> TensorRef:
    where = f"array {quote(name)}"
    error = archive.source.error
    start, header = _header(archive, member, where)
    code, fortran, shape = _parse(header, where, archive)
    order, kind = (code[0], code[1:]) if code[:1] in ("<", ">", "|", "=") else ("=", code)
    try:
        # numpy has no bfloat16: jax's arrays come out as two-byte records (V2).
        dtype = "bfloat16" if kind == "V2" else dtype_name(kind)
    except Refusal as refusal:
        raise error(f"{where}: {refusal}") from refusal
    if not is_shape(shape) or start + nbytes_of(shape, dtype) != member.size:
        raise error(f"{where}: {member.size - start} bytes for {dtype} {quote(shape)}; the file is damaged")

    def read() -> np.ndarray:
        flat = np.empty(nbytes_of(shape, dtype) // DTYPES[dtype].itemsize, DTYPES[dtype])
        archive.read_into(member, start, as_bytes(flat))
        if order == ">":
            flat.byteswap(inplace=True)
        return np.asarray(flat.reshape(shape, order="F" if fortran else "C"), order="C")

    return TensorRef(name, shape, dtype, read)


def _header(archive: ZipMembers, member: Member, where: str) -> tuple[int, str]:
    """Length of everything before the data, and the header's text. Unpacks only the member's beginning."""
    begin = archive.beginning(member, 12 + MAX_HEADER)
    if begin[:6] != b"\x93NUMPY" or begin[6:8] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise archive.source.error(f"{where}: is no .npy of version 1 to 3")
    layout = "<H" if begin[6] == 1 else "<I"
    after = 8 + struct.calcsize(layout)
    length = struct.unpack(layout, begin[8:after])[0] if len(begin) >= after else 0
    if not 0 < length <= MAX_HEADER or after + length > len(begin):
        raise archive.source.error(f"{where}: a header of {length} bytes, expected at most {MAX_HEADER}")
    return after + length, begin[after : after + length].decode("latin-1")


def _parse(header: str, where: str, archive: ZipMembers) -> tuple[str, bool, tuple[int, ...]]:
    """``{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`` -> code, Fortran order, shape."""
    compact = re.sub(r"\s+", "", header)
    inside = compact[1:-1].rstrip(",") if compact[:1] == "{" and compact[-1:] == "}" else ""
    found = list(_FIELDS.finditer(inside))
    fields = {match.lastindex: match.group(match.lastindex or 0) for match in found}
    if len(found) != 3 or set(fields) != {1, 2, 3} or ",".join(match.group() for match in found) != inside:
        raise archive.source.error(f"{where}: holds records or objects, expected numbers: {quote(header.strip())}")
    sizes = [size.rstrip("L") for size in fields[3].split(",") if size]
    if any(not size.isdigit() or len(size) > 19 for size in sizes):
        raise archive.source.error(f"{where}: impossible shape ({quote(fields[3])})")
    return fields[1], fields[2] == "True", tuple(int(size) for size in sizes)
