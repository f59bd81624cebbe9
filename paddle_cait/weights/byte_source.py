"""The bytes of one open file: exact reads at any offset, and windows that are read in order. Nothing is mapped."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from paddle_cait.errors import WeightsError
from paddle_cait.files import PathLike

BLOCK = 4 << 20  # the most that is read beside a tensor's own memory


class ByteSource:
    """A regular file opened for reading. Every failure is a :class:`WeightsError` that begins with its path.

    Not a memory map: mapped pages would count as this process's memory, and a file cut short meanwhile would kill it.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()  # seek and read belong together: tensors may be read from several threads
        try:
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise self.error(f"cannot be opened ({error.strerror})") from error
        self.size = os.fstat(self._file.fileno()).st_size

    def error(self, message: str) -> WeightsError:
        return WeightsError(f"{self.path}: {message}")

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` (flat bytes) from ``offset`` on."""
        try:
            with self._lock:
                if self._file.closed:
                    raise self.error("is closed, its tensors must be read before")
                self._file.seek(offset)
                done = 0
                while done < len(buffer):
                    count = self._file.readinto(buffer[done:])
                    if not count:
                        raise self.error(f"ends {len(buffer) - done} bytes too early; download or copy it again")
                    done += count
        except OSError as error:
            raise self.error(f"cannot be read ({error.strerror})") from error

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset``; refused before anything is allocated if the file has fewer."""
        if offset + length > self.size:
            raise self.error(f"ends {offset + length - self.size} bytes too early; download or copy it again")
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def close(self) -> None:
        with self._lock:
            self._file.close()


class Window:
    """Bytes [start, end) of a source, read in order through a small buffer. ``label`` names them in messages."""

    _CHUNK = 1 << 16

    def __init__(self, source: ByteSource, start: int, end: int, label: str = "") -> None:
        self.source = source
        self.end = end
        self.label = label
        self._base = start  # file offset of the buffer's first byte
        self._buffer = b""
        self._next = 0

    @property
    def position(self) -> int:
        """File offset of the next byte."""
        return self._base + self._next

    def error(self, message: str) -> WeightsError:
        return self.source.error(f"{self.label}: {message}" if self.label else message)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes. Meant for small counts; checked against the end before anything is read."""
        stop = self._next + count
        if stop > len(self._buffer):
            self.require(count)
            length = min(max(count, self._CHUNK), self.end - self.position)
            self._base, self._buffer = self.position, self.source.read(self.position, length)
            self._next, stop = 0, count
        piece = self._buffer[self._next : stop]
        self._next = stop
        return piece

    def skip(self, count: int) -> int:
        """Step over ``count`` bytes without reading them; returns the file offset where they begin."""
        self.require(count)
        start = self.position
        if self._next + count <= len(self._buffer):
            self._next += count
        else:
            self._base, self._buffer, self._next = start + count, b"", 0
        return start

    def line(self, limit: int) -> bytes:
        """The bytes up to the next newline, without it."""
        found = self._buffer.find(b"\n", self._next, self._next + limit)
        if found < 0:  # near the buffer's end, or too long
            ahead = min(limit, self.end - self.position)
            piece = self.take(ahead)
            self._next -= ahead
            if b"\n" not in piece:
                self.require(limit)
                raise self.error(f"is damaged at byte {self.position}: a line of text does not end")
            found = self._next + piece.index(b"\n")
        piece = self._buffer[self._next : found]
        self._next = found + 1
        return piece

    def require(self, count: int) -> None:
        """Raise :class:`WeightsError` unless ``count`` more bytes are there."""
        missing = self.position + count - self.end
        if missing > 0:
            raise self.error(f"is cut short: at least {missing} bytes are missing; download or copy it again")
