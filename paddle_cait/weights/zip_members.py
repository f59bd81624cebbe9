"""Zip archives as .pth and .npz files use them: a directory read within bounds, members read where they lie.

Not zipfile: it builds an object for every entry a directory claims before any check, copies stored members through
small buffers, and does not say where a member's bytes begin.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from paddle_cait.errors import WeightsError
from paddle_cait.weights.byte_source import BLOCK, ByteSource
from paddle_cait.weights.tensors import MAX_NAME, MAX_TENSORS, quote

MAX_DIRECTORY = 64 << 20
STORED, DEFLATED = 0, 8

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_HIDDEN = 0x1 | 0x40 | 0x2000  # flag bits: encrypted, strongly encrypted, directory encrypted
_NOISE = 16 << 20  # below this a member may be as compressible as it likes
_PACKED_PIECE = 64 << 10
_MAX_RATIO = 200  # weights are noise: deflate gains 10 %; only padding and zeros gain more


@dataclass(frozen=True)
class Member:
    name: str
    method: int
    crc: int
    packed: int  # bytes in the file
    size: int  # bytes unpacked
    header: int  # file offset of its local header
    limit: int  # file offset of what comes next: its data ends before


class ZipMembers:
    """The members of a zip archive by name. Raises :class:`WeightsError` for anything a framework would not write."""

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        count, offset, size = self._find_directory()
        if count > 2 * MAX_TENSORS or size > MAX_DIRECTORY:
            raise source.error(
                f"its zip directory claims {count} members in {size} bytes, no checkpoint needs that many"
            )
        raw = source.read(offset, size)
        entries: dict[str, Member] = {}
        position = 0
        for _ in range(count):
            member, position = self._parse_entry(raw, position)
            if member.name in entries:
                raise source.error(f"its zip directory has the member {quote(member.name)} twice")
            entries[member.name] = member
        if position != len(raw):
            raise source.error(f"its zip directory is damaged: {len(raw) - position} bytes are left over")
        self.members = dict(zip(entries, self._with_limits(list(entries.values()), offset)))
        self._checked: set[str] = set()

    def _find_directory(self) -> tuple[int, int, int]:
        """Number of members, offset and size of the directory."""
        tail_start = max(0, self.source.size - _END.size - 65_535)
        tail = self.source.read(tail_start, self.source.size - tail_start)
        at = tail.rfind(b"PK\x05\x06")
        while at >= 0 and not (
            at + _END.size <= len(tail) and len(tail) - at - _END.size == _END.unpack_from(tail, at)[7]
        ):
            at = tail.rfind(b"PK\x05\x06", 0, at + 3)
        if at < 0:
            raise self.source.error(
                "is a zip archive without its directory, the last part: the file is cut short; download it again"
            )
        _, disk, first_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
        end = tail_start + at
        located = self._find_end64(end)
        if located is not None:
            count, size, offset, end = located
        elif disk or first_disk:
            raise self.source.error("is one part of a zip archive in several parts")
        if offset + size != end:
            raise self.source.error(
                "its zip directory is not where it should be: the file is damaged; download it again"
            )
        return count, offset, size

    def _find_end64(self, end: int) -> tuple[int, int, int, int] | None:
        if end < _END64_LOCATOR.size + _END64.size:
            return None
        magic, _, at, _ = _END64_LOCATOR.unpack(self.source.read(end - _END64_LOCATOR.size, _END64_LOCATOR.size))
        if magic != b"PK\x06\x07":
            return None
        if at + _END64.size + _END64_LOCATOR.size != end:
            raise self.source.error(
                "its zip64 directory is not where it should be: the file is damaged; download it again"
            )
        magic, _, _, _, _, _, _, count, size, offset = _END64.unpack(self.source.read(at, _END64.size))
        if magic != b"PK\x06\x06":
            raise self.source.error("its zip64 directory is damaged; download it again")
        return count, size, offset, at

    def _parse_entry(self, raw: bytes, position: int) -> tuple[Member, int]:
        if position + _ENTRY.size > len(raw) or raw[position : position + 4] != b"PK\x01\x02":
            raise self.source.error("its zip directory is damaged; download it again")
        fields = _ENTRY.unpack_from(raw, position)
        flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
        name_length, extra_length, comment_length, header = *fields[10:13], fields[16]
        start = position + _ENTRY.size
        end = start + name_length + extra_length + comment_length
        name = raw[start : start + name_length].decode("utf-8" if flags & 0x800 else "cp437", errors="replace")
        where = f"zip member {quote(name)}"
        if end > len(raw) or name_length > MAX_NAME:
            raise self.source.error(f"{where}: its directory entry is damaged")
        if flags & _HIDDEN:
            raise self.source.error(f"{where}: is encrypted")
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or not name.isprintable():
            raise self.source.error(f"{where}: is no name that a framework would write")
        wide = [size, packed, header]
        if 0xFFFFFFFF in wide:
            wide = self._widen(where, wide, raw[start + name_length : start + name_length + extra_length])
        size, packed, header = wide
        if method not in (STORED, DEFLATED) or (method == STORED and size != packed):
            raise self.source.error(f"{where}: is compressed in an unknown way (method {method})")
        if size > max(_NOISE, _MAX_RATIO * packed):
            raise self.source.error(f"{where}: {packed} bytes claim to unpack to {size}, which is no weight data")
        return Member(name, method, crc, packed, size, header, 0), end

    def _widen(self, where: str, values: list[int], extra: bytes) -> list[int]:
        """Replace the values that do not fit 32 bits by those of the zip64 field."""
        at = 0
        while at + 4 <= len(extra):
            kind, length = struct.unpack_from("<2H", extra, at)
            if kind == 1 and at + 4 + length <= len(extra):
                wide = [value[0] for value in struct.iter_unpack("<Q", extra[at + 4 : at + 4 + length // 8 * 8])]
                if len(wide) >= values.count(0xFFFFFFFF):
                    return [wide.pop(0) if value == 0xFFFFFFFF else value for value in values]
                break
            at += 4 + length
        raise self.source.error(f"{where}: its directory entry is damaged")

    def _with_limits(self, members: list[Member], end: int) -> Iterator[Member]:
        """Members may not overlap: else a small file could claim any number of large tensors."""
        starts = sorted(member.header for member in members)
        after = dict(zip(starts, [*starts[1:], end]))
        if len(after) != len(starts):
            raise self.source.error("its zip members overlap")
        for member in members:
            limit = after[member.header]
            if member.header + _LOCAL.size + member.packed > limit:
                raise self.source.error(
                    f"zip member {quote(member.name)}: overlaps with what follows; the file is damaged"
                )
            yield Member(member.name, member.method, member.crc, member.packed, member.size, member.header, limit)

    def data_offset(self, member: Member) -> int:
        """File offset of the member's (packed) bytes."""
        fields = _LOCAL.unpack(self.source.read(member.header, _LOCAL.size))
        offset: int = member.header + _LOCAL.size + fields[9] + fields[10]
        if fields[0] != b"PK\x03\x04" or offset + member.packed > member.limit:
            raise self.source.error(f"zip member {quote(member.name)}: is damaged; download the file again")
        return offset

    def read_into(self, member: Member, skip: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the member's unpacked bytes from ``skip`` to its end; checks length and CRC."""
        crc, done = 0, -skip
        for piece in self._stored(member, skip, buffer) if member.method == STORED else self._inflated(member):
            crc = zlib.crc32(piece, crc)
            if member.method == DEFLATED and done + len(piece) > 0:
                kept = piece[max(0, -done) :]
                if max(0, done) + len(kept) > len(buffer):
                    raise self._corrupt(member, "unpacks to more than it claims")
                buffer[max(0, done) : max(0, done) + len(kept)] = kept
            done += len(piece)
        # torch writes a CRC of 0 for all members under torch.serialization.set_crc32_options(False).
        if done != len(buffer) or crc != member.crc != 0:
            raise self._corrupt(member, "CRC or length differs")
        self._checked.add(member.name)

    def _stored(self, member: Member, skip: int, buffer: memoryview) -> Iterator[memoryview | bytes]:
        """The member's pieces, each read straight to where it belongs."""
        offset = self.data_offset(member)
        if skip:
            yield self.source.read(offset, skip)
        for start in range(0, len(buffer), BLOCK):
            piece = buffer[start : start + BLOCK]
            self.source.read_into(offset + skip + start, piece)
            yield piece

    def _inflated(self, member: Member) -> Iterator[bytes]:
        offset = self.data_offset(member)
        inflate = zlib.decompressobj(-15)
        try:
            for start in range(0, member.packed, _PACKED_PIECE):
                packed = self.source.read(offset + start, min(_PACKED_PIECE, member.packed - start))
                while packed and not inflate.eof:
                    yield inflate.decompress(packed, BLOCK)
                    packed = inflate.unconsumed_tail
            yield inflate.flush()
        except zlib.error as error:
            raise self._corrupt(member, str(error)) from error

    def _corrupt(self, member: Member, why: str) -> WeightsError:
        return self.source.error(f"zip member {quote(member.name)}: is corrupt ({why}); download the file again")

    def beginning(self, member: Member, length: int) -> bytes:
        """At most ``length`` unpacked bytes, unchecked."""
        if member.method == STORED:
            return self.source.read(self.data_offset(member), min(length, member.size))
        packed = self.source.read(self.data_offset(member), min(2 * length, member.packed))
        try:
            return zlib.decompressobj(-15).decompress(packed, length)
        except zlib.error as error:
            raise self._corrupt(member, str(error)) from error

    def read(self, member: Member, limit: int) -> bytes:
        """The whole of a small member."""
        if member.size > limit:
            raise self.source.error(f"zip member {quote(member.name)}: {member.size} bytes, expected at most {limit}")
        content = bytearray(member.size)
        self.read_into(member, 0, memoryview(content))
        return bytes(content)

    def check(self, member: Member) -> None:
        """Raise :class:`WeightsError` if a stored member's bytes do not match its CRC; they are read once for that."""
        if member.name in self._checked:
            return
        offset, crc = self.data_offset(member), 0
        for start in range(0, member.packed, BLOCK):
            crc = zlib.crc32(self.source.read(offset + start, min(BLOCK, member.packed - start)), crc)
        if crc != member.crc != 0:
            raise self._corrupt(member, "CRC differs")
        self._checked.add(member.name)
