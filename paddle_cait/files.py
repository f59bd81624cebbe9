"""Files that appear whole or not at all, and their fingerprints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Union

from paddle_cait.errors import PaddleCaitError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PathLike = Union[str, "os.PathLike[str]"]


@contextlib.contextmanager
def atomic_writers(*paths: PathLike) -> Iterator[list[BinaryIO]]:
    """Open one binary file per path; the names appear only after the block ends without an error.

    The data goes to unnamed files (Linux ``O_TMPFILE``), so that even ``kill -9`` leaves nothing behind; where
    the file system has none, to hidden ``.NAME.PID.tmp`` files that are removed on any error. Names appear in the order
    given: put the file whose existence means "all is there" last.
    """
    targets = [Path(p) for p in paths]
    try:
        with contextlib.ExitStack() as stack:
            pending = [stack.enter_context(_Pending(target)) for target in targets]
            yield [p.file for p in pending]
            for p in pending:
                p.flush()
            for p in pending:
                p.publish()
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise PaddleCaitError(f"{targets[-1]}: cannot be written ({error.strerror})") from error


def write_atomic(path: PathLike, data: bytes) -> None:
    """Write ``data`` to ``path`` in one step (see :func:`atomic_writers`)."""
    with atomic_writers(path) as (file,):
        file.write(data)


def sha256_file(path: PathLike) -> str:
    """Hex sha256 of a file's bytes, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


class _Pending:
    """One output between its first byte and its name."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        self.named = False

    def __enter__(self) -> _Pending:
        if self.target.is_dir():
            raise PaddleCaitError(f"{self.target}: is a folder, expected the name of a file to write")
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.file: BinaryIO = self._open()
        except OSError as error:
            raise PaddleCaitError(f"{self.target}: cannot be written ({error.strerror})") from error
        return self

    def _open(self) -> BinaryIO:
        try:
            handle = os.open(self.target.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
            return os.fdopen(handle, "w+b")
        except (AttributeError, OSError):  # not Linux, or a file system without unnamed files
            self.named = True
            return open(self.temporary, "w+b")

    def flush(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def publish(self) -> None:
        if not self.named:
            # Linking cannot replace an existing file, so the new one gets a hidden name for the instant before rename.
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:  # a folder handle makes os.link call linkat(2), the only way to name an unnamed file
                os.link(f"/proc/self/fd/{self.file.fileno()}", self.temporary.name, dst_dir_fd=folder)
            finally:
                os.close(folder)
            self.named = True
        self.temporary.replace(self.target)
        self.named = False

    def __exit__(self, *exc: object) -> None:
        try:
            self.file.close()  # what is still in its buffer may find no room
        finally:
            if self.named:
                self.temporary.unlink(missing_ok=True)
