"""Images inside a plain tar, read in place: ``ILSVRC2012_img_val.tar`` needs no 6.7 GB of extracted files."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

from paddle_cait.data.image_files import is_image
from paddle_cait.errors import DataError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"PK": "zip"}
_BLOCK = 512


class TarIndex:
    """Where each image of a tar lies. Read-only; picklable; safe to use after a fork.

    Names inside of the tar are keys, never paths on this machine: nothing is extracted, links are not followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        self._opened_by = -1
        try:
            self._scan()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        except tarfile.TarError as error:
            raise DataError(f"{path}: not a tar file, or damaged ({error}); copy or download it again") from error

    def _scan(self) -> None:
        with open(self.path, "rb") as file:
            magic = file.read(2)
            if magic in _COMPRESSED:
                kind = _COMPRESSED[magic]
                raise DataError(f"{self.path}: is {kind}-compressed, which cannot be read in place; unpack it first")
            file.seek(0)
            total = os.fstat(file.fileno()).st_size
            end = 0
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                    if member.offset_data + member.size > total:
                        raise DataError(self._cut_off(member.name))
                    name = member.name[2:] if member.name.startswith("./") else member.name
                    if not member.isreg() or not is_image(name):
                        continue
                    if name in self._places:
                        raise DataError(f"{self.path}: contains {name} twice; make the tar anew")
                    self._places[name] = (member.offset_data, member.size)
            file.seek(end)
            # tar ends with zero blocks: without them the file was cut exactly between two images
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise DataError(self._cut_off("its end"))

    def _cut_off(self, where: str) -> str:
        return f"{self.path}: the tar is cut off at {where} after {len(self._places)} images; copy or download it again"

    @property
    def names(self) -> list[str]:
        """The images' names in the tar, sorted."""
        return sorted(self._places)

    def read(self, name: str) -> bytes:
        """The bytes of one image."""
        offset, size = self._places[name]
        if self._opened_by != os.getpid():
            self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)  # each process its own, while it lives
            self._opened_by = os.getpid()
        data = os.pread(self._handle, size, offset)
        if len(data) != size:
            raise DataError(f"{self.path}: {name} cannot be read completely; the file changed")
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_places": self._places, "_opened_by": -1}

    def __del__(self) -> None:
        if self.__dict__.get("_opened_by") == os.getpid():
            os.close(self._handle)
