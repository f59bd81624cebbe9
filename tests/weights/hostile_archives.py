"""Zip and npz files whose structure lies, and valid files of all formats cut short."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import make_files as make
import numpy as np

ONES = np.ones(12, np.float32)
END = b"PK\x05\x06"
ENTRY = b"PK\x01\x02"


def valid() -> dict[str, bytes]:
    """One good file of each format."""
    tree = {"model": {"a": make.Tensor(ONES), "b": make.Tensor(np.ones((3, 4)), (4, 3), (1, 4))}, "epoch": 3}
    arrays = {"a": ONES, "b": np.ones((3, 4))}
    header = {"a": {"dtype": "F32", "shape": [12], "data_offsets": [0, 48]}, "__metadata__": {"format": "pt"}}
    return {
        "pth-zip": make.pth_zip(tree),
        "pth-legacy": make.pth_legacy(tree),
        "npz": make.npz(arrays),
        "npz deflated": make.npz(arrays, compressed=True),
        "safetensors": make.safetensors(header, ONES.tobytes()),
        "pdparams 2": pickle.dumps(arrays, 2),
        "pdparams 4": pickle.dumps(arrays, 4),
        "pdparams 5": pickle.dumps(arrays, 5),
    }


def truncated() -> dict[str, bytes]:
    """Each good file cut at forty places and around every interesting one."""
    made = {}
    for kind, data in valid().items():
        points = {len(data) * i // 40 for i in range(40)} | set(range(24)) | {len(data) - i for i in range(1, 26)}
        for mark in (b"PK", b"\x80\x02", b"\x80\x04", b"}", b"NUMPY"):
            found = data.find(mark, 1)
            points |= {found, found + 1, found + 4} if found > 0 else set()
        made.update({f"{kind} cut at {point}": data[:point] for point in sorted(points) if point < len(data)})
    return made


def patched(data: bytes, anchor: bytes, offset: int, layout: str, value: int, last: bool = False) -> bytes:
    """``data`` with one number changed, ``offset`` bytes after the first (or last) ``anchor``."""
    at = (data.rindex(anchor) if last else data.index(anchor)) + offset
    return data[:at] + struct.pack(layout, value) + data[at + struct.calcsize(layout) :]


def renamed(old: str, new: str) -> bytes:
    """The good torch archive with a member renamed, to a name of the same length."""
    return make.pth_zip({"a": make.Tensor(ONES)}).replace(old.encode(), new.encode())


def with_end64(count: int, size: int, offset: int, at: int | None = None) -> bytes:
    """The good archive with a zip64 directory record that claims these numbers."""
    data = make.pth_zip({"a": make.Tensor(ONES)})
    head, end = data[: data.rindex(END)], data[data.rindex(END) :]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    return head + record + struct.pack("<4sLQL", b"PK\x06\x07", 0, len(head) if at is None else at, 1) + end


def two_members(first: str, second: str) -> bytes:
    """Both names share one length, so the second is patched in after writing."""
    members = make.pth_zip_members({"a": make.Tensor(ONES)})
    data = make.zipped({**members, first: b"x", "q" * len(second): b"y"})
    return data.replace(b"q" * len(second), second.encode())


def zips() -> dict[str, Callable[[], bytes]]:
    good = make.pth_zip({"a": make.Tensor(ONES)})
    members = make.pth_zip_members({"a": make.Tensor(ONES)})
    return {
        "end: claims 65534 members": lambda: patched(good, END, 10, "<H", 65534),
        "end: claims no members": lambda: patched(good, END, 10, "<H", 0),
        "end: directory of 4 GB": lambda: patched(good, END, 12, "<L", 0xFFFFFFFE),
        "end: directory far out": lambda: patched(good, END, 16, "<L", 0xFFFFFFFE),
        "end: directory at 0": lambda: patched(good, END, 16, "<L", 0),
        "end: comment beyond the file": lambda: patched(good, END, 20, "<H", 100),
        "end: second disk": lambda: patched(good, END, 4, "<H", 1),
        "end: a thousand of them": lambda: good + END * 16_000,
        "end64: 2**63 members": lambda: with_end64(1 << 63, 100, 0),
        "end64: 2**40 members": lambda: with_end64(1 << 40, 60 << 20, 0),
        "end64: directory of 9 EB": lambda: with_end64(4, (1 << 63) - 1, 0),
        "end64: elsewhere": lambda: with_end64(4, 100, 0, at=(1 << 63) - 1),
        "end64: at itself": lambda: with_end64(4, 100, 0, at=0),
        "directory of 70 MB": lambda: _large_directory(70 << 20, 60_000),
        "directory of a million members": lambda: _large_directory(60 << 20, 50),
        "300000 small members": lambda: _many_members(300_000),
        "entry: damaged": lambda: good.replace(ENTRY, b"PK\x01\x03"),
        "entry: encrypted": lambda: patched(good, ENTRY, 8, "<H", 1),
        "entry: strongly encrypted": lambda: patched(good, ENTRY, 8, "<H", 0x41),
        "entry: method 99": lambda: patched(good, ENTRY, 10, "<H", 99),
        "entry: method bzip2": lambda: make.zipped(members, zipfile.ZIP_BZIP2),
        "entry: lzma": lambda: make.zipped(members, zipfile.ZIP_LZMA),
        "entry: torch deflated": lambda: make.zipped(members, zipfile.ZIP_DEFLATED),
        "entry: other CRC": lambda: patched(good, ENTRY, 16, "<L", 0x12345678),
        "entry: packed 4 GB": lambda: patched(good, ENTRY, 20, "<L", 0xFFFFFFFE),
        "entry: unpacked 4 GB": lambda: patched(good, ENTRY, 24, "<L", 0xFFFFFFFE),
        "entry: zip64 without field": lambda: patched(good, ENTRY, 24, "<L", 0xFFFFFFFF),
        "entry: zip64 field cut": lambda: patched(make.with_zip64(good), b"\x01\0\x18\0", 0, "<L", 0x00150001),
        "entry: zip64 field too short": lambda: patched(make.with_zip64(good), b"\x01\0\x18\0", 0, "<L", 0x00080001),
        "entry: zip64 field too long": lambda: patched(make.with_zip64(good), b"\x01\0\x18\0", 0, "<L", 0xFFFF0001),
        "entry: zip64 offset": lambda: patched(make.with_zip64(good), b"\x01\0\x18\0", 20, "<Q", (1 << 64) - 1),
        "entry: zip64 size": lambda: patched(make.with_zip64(good), b"\x01\0\x18\0", 4, "<Q", (1 << 64) - 1),
        "entry: extra cut": lambda: patched(make.with_zip64(good), ENTRY, 30, "<H", 17),
        "entry: name of 65535": lambda: patched(good, ENTRY, 28, "<H", 65535),
        "entry: extra of 65535": lambda: patched(good, ENTRY, 30, "<H", 65535),
        "entry: comment of 65535": lambda: patched(good, ENTRY, 32, "<H", 65535),
        "entry: header far out": lambda: patched(good, ENTRY, 42, "<L", 0xFFFFFFFE),
        "entry: header of another": lambda: patched(good, ENTRY, 42, "<L", 0, last=True),
        "local: damaged": lambda: good.replace(b"PK\x03\x04", b"PK\x03\x05").replace(b"PK\x03\x05", b"PK\x03\x04", 1),
        "local: name of 65535": lambda: patched(good, b"PK\x03\x04", 26, "<H", 65535),
        "local: extra of 65535": lambda: patched(good, b"PK\x03\x04", 28, "<H", 65535),
        "names: twice": lambda: two_members("archive/data/7", "archive/data/7"),
        "names: traversal": lambda: renamed("archive/data.pkl", "../../v/data.pkl"),
        "names: absolute": lambda: renamed("archive/data.pkl", "/rchive/data.pkl"),
        "names: traversal beside": lambda: make.zipped({**members, "a/../../x": b""}),
        "names: backslash": lambda: make.zipped({**members, "qqqqqq": b""}).replace(b"qqqqqq", b"..\\..\\"),
        "names: NUL": lambda: renamed("archive/version", "archive/v\0rsion"),
        "names: terminal codes": lambda: renamed("archive/version", "archive/\x1b[2Jon"),
        "names: none": lambda: make.zipped({"": b""}),
        "names: two roots": lambda: make.zipped({**members, "other/data.pkl": b"x"}),
        "names: 600 letters": lambda: make.zipped({**members, "x" * 600: b""}),
        "no storage": lambda: make.zipped({key: data for key, data in members.items() if "/data/" not in key}),
        "short storage": lambda: make.zipped({**members, "archive/data/0": ONES.tobytes()[:-4]}),
        "long storage": lambda: make.zipped({**members, "archive/data/0": ONES.tobytes() * 2}),
        "byte order: middle": lambda: make.zipped({**members, "archive/byteorder": b"middle"}),
        "byte order: long": lambda: make.zipped({**members, "archive/byteorder": b"little" * 1000}),
        "empty data.pkl": lambda: make.zipped({**members, "archive/data.pkl": b""}),
        "data.pkl of 65 MB": lambda: make.zipped({**members, "archive/data.pkl": bytes(65 << 20)}),
        "data.pkl goes on": lambda: make.zipped({**members, "archive/data.pkl": members["archive/data.pkl"] + b"x"}),
        "storage damaged": lambda: good.replace(ONES.tobytes(), ONES.tobytes()[:-1] + b"\0", 1),
        "members overlap": _overlapping,
    }


def _large_directory(size: int, extra: int) -> bytes:
    """A directory of ``size`` bytes whose entries all point to the same place."""
    one = struct.pack(
        "<4s6H3L5H2L", ENTRY, 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, extra - 47 if extra > 47 else 0, 0, 0, 0, 0, 0
    )
    entries = size // (len(one) + 1 + max(extra - 47, 0))
    directory = b"".join(one + b"a" + bytes(max(extra - 47, 0)) for _ in range(entries))
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, len(directory), 4)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 4 + len(directory), 1)
    return b"PK\x03\x04" + directory + record + locator + struct.pack("<4s4H2LH", END, 0, 0, 65535, 65535, 0, 0, 0)


def _many_members(count: int) -> bytes:
    header = b"PK\x03\x04" + bytes(26)
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", ENTRY, 20, 20, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, i * 30) + b"%06d.npy" % i
        for i in range(count)
    )
    start = count * 30
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(directory), 1)
    return header * count + directory + record + locator + struct.pack("<4s4H2LH", END, 0, 0, 65535, 65535, 0, 0, 0)


def _overlapping() -> bytes:
    """Fifield's bomb in small: two members whose bytes are the same ones."""
    data = make.zipped({"a.npy": make.npz({"x": ONES}), "b.npy": b""})
    size = struct.unpack_from("<L", data, data.index(ENTRY) + 20)[0]
    for offset in (20, 24):
        data = patched(data, ENTRY, offset, "<L", size, last=True)
    return data


def npy(descr: str = "'<f4'", shape: str = "(12,)", fortran: str = "False", data: bytes = ONES.tobytes()) -> bytes:
    return npy_of_header(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}", data)


def npy_of_header(
    header: str, data: bytes = ONES.tobytes(), version: bytes = b"\x01\0", length: int | None = None
) -> bytes:
    layout = "<H" if version == b"\x01\0" else "<I"
    return (
        b"\x93NUMPY" + version + struct.pack(layout, len(header) if length is None else length) + header.encode() + data
    )


def npzs() -> dict[str, Callable[[], bytes]]:
    def stored(member: bytes) -> Callable[[], bytes]:
        return lambda: make.zipped({"a.npy": member})

    def saved(array: Any) -> Callable[[], bytes]:
        return lambda: make.npz({"a": array})

    return {
        "objects": saved(np.array([{"x": 1}], object)),
        "a function": saved(np.array([len], object)),
        "texts": saved(np.array(["abc"])),
        "records": saved(np.zeros(2, [("x", "f4"), ("y", "O")])),
        "complex": saved(np.zeros(2, complex)),
        "dates": saved(np.zeros(2, "M8[D]")),
        "void": saved(np.zeros(2, "V5")),
        "object descr": stored(npy("'|O'")),
        "object descr 8": stored(npy("'|O8'", "(6,)")),
        "descr is code": stored(npy("__import__('os').system('true')")),
        "descr is a list": stored(npy("[('x', '<f4')]")),
        "descr of two": stored(npy("'<f4,|O8'")),
        "descr is long": stored(npy("'" + "f" * 5000 + "'")),
        "shape too large": stored(npy(shape="(13,)")),
        "shape too small": stored(npy(shape="(11,)")),
        "shape negative": stored(npy(shape="(-12,)")),
        "shape of negatives": stored(npy(shape="(-3, -4)")),
        "shape of 2**63": stored(npy(shape="(9223372036854775807,)")),
        "shape of products": stored(npy(shape="(4294967296, 4294967296, 4294967296)")),
        "shape of many digits": stored(npy(shape="(" + "9" * 5000 + ",)")),
        "shape nan": stored(npy(shape="(nan,)")),
        "shape float": stored(npy(shape="(12.0,)")),
        "shape of a call": stored(npy(shape="(len('abc'),)")),
        "shape of 100 dimensions": stored(npy(shape="(" + "1," * 100 + ")")),
        "fortran maybe": stored(npy(fortran="Maybe")),
        "header in brackets": stored(npy_of_header("(" * 9000)),
        "header of lists": stored(npy_of_header("[" * 4000 + "]" * 4000)),
        "header of spaces": stored(npy_of_header("{" + " " * 9900 + "}")),
        "header of quotes": stored(npy_of_header("{'descr':" + "'" * 9000)),
        "header of fields": stored(npy_of_header("{" + "'fortran_order': True, " * 400 + "}")),
        "header names a field twice": stored(npy_of_header("{'descr': '<f4', 'descr': '<f4', 'shape': (12,), }")),
        "header lacks a field": stored(npy_of_header("{'descr': '<f4', 'shape': (12,), }")),
        "header has one more": stored(
            npy_of_header("{'descr': '<f4', 'fortran_order': False, 'shape': (12,), 'x': 1}")
        ),
        "header of 4 GB": stored(npy_of_header("{}", version=b"\x02\0", length=0xFFFFFFFF)),
        "header of 60000": stored(npy_of_header(" " * 60_000)),
        "header of nothing": stored(npy_of_header("")),
        "version 9": stored(npy_of_header("{}", version=b"\x09\0")),
        "no magic": stored(b"NUMPY" * 10),
        "empty member": stored(b""),
        "pickle instead": stored(pickle.dumps(ONES)),
        "beside a text": lambda: make.zipped({"a.npy": npy(), "README.txt": b"x"}),
        "bomb": lambda: _bomb(1 << 30),
        "bomb of 60 GB": lambda: _bomb(1 << 20, claim=60 << 30),
        "bomb that hides its size": lambda: _bomb(1 << 28, claim=1 << 20),
        "bomb in a small member": lambda: _bomb(1 << 26, claim=15 << 20),
        "deflated noise": lambda: _deflated(npy(), lambda raw: b"\xff" * len(raw)),
        "deflated and cut": lambda: _deflated(npy(data=bytes(48)), lambda raw: raw[:-8]),
        "deflated and damaged": lambda: _deflated(npy(), lambda raw: raw[:-3] + b"\0\0\0"),
        "deflated and too short": lambda: _deflated(npy()[:-4], lambda raw: raw, claim=len(npy())),
    }


def _bomb(size: int, claim: int | None = None) -> bytes:
    """An array of zeros, deflated a thousandfold."""
    claim = claim or size
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({claim},), }}"
    begin = npy_of_header(header, b"")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(begin)
    for _ in range(size >> 20):
        packed += packer.compress(bytes(1 << 20))
    return _member(packed + packer.flush(), claim + len(begin), 1)


def _deflated(member: bytes, change: Callable[[bytes], bytes], claim: int | None = None) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return _member(change(packer.compress(member) + packer.flush()), claim or len(member), zlib.crc32(member))


def _member(packed: bytes, size: int, crc: int) -> bytes:
    """An archive of one deflated member ``a.npy``; a size beyond 32 bits goes to a zip64 field."""
    extra = struct.pack("<2HQ", 1, 8, size) if size >= 0xFFFFFFFF else b""
    shown = min(size, 0xFFFFFFFF)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(packed), shown, 5, 0) + b"a.npy" + packed
    numbers = (ENTRY, 20, 20, 0, 8, 0, 0, crc, len(packed), shown, 5, len(extra), 0, 0, 0, 0, 0)
    directory = struct.pack("<4s6H3L5H2L", *numbers) + b"a.npy" + extra
    return local + directory + struct.pack("<4s4H2LH", END, 0, 0, 1, 1, len(directory), len(local), 0)
