"""What people give a predictor: a photograph, many of them, a folder, a pattern, bytes, arrays."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
from PIL import Image

from paddle_cait.data.image_files import images_below
from paddle_cait.data.transforms import decode
from paddle_cait.errors import DataError

Source = Union[str, bytes, Image.Image, np.ndarray]
_ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
_WILD = frozenset("*?[")


@dataclass(frozen=True)
class Item:
    """One image to come: ``name`` for messages and tables, ``source`` what it is read from: the path of a file, encoded
    bytes, a ``PIL.Image`` or a uint8 array [H, W, 3]."""

    name: str
    source: Source

    def read(self, exif: bool = False) -> Image.Image:
        """RGB. Raises :class:`DataError` for what is no image."""
        if isinstance(self.source, (str, bytes)):
            return decode(self.source, self.name, exif)
        if isinstance(self.source, np.ndarray):
            return Image.fromarray(self.source)
        return self.source if self.source.mode == "RGB" else self.source.convert("RGB")


def is_turned(image: Image.Image) -> bool:
    """Whether the camera noted that the photograph is to be turned or mirrored."""
    try:
        return image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # damaged notes: Pillow raises whatever they lead it to
        return False


def find_images(what: Any) -> tuple[list[Item], bool]:
    """The images that ``what`` means, and whether it is a single one.

    ``what``: the path of a file, of a folder (all images below it) or a pattern such as ``photos/*.jpg``; the bytes of
    an encoded image; a ``PIL.Image``; a uint8 array [H, W, 3] (RGB), or [N, H, W, 3]; or a list of any of these. Raises
    :class:`DataError` for anything else, and for what holds no image.
    """
    if isinstance(what, (list, tuple)):
        return [item for one in what for item in _items(one)], False
    items = list(_items(what))
    if isinstance(what, (str, os.PathLike)):
        return items, items[0].name == os.fspath(what)  # itself, not what it stands for
    return items, what.ndim == 3 if isinstance(what, np.ndarray) else True


def _items(what: Any) -> Iterator[Item]:
    if isinstance(what, (str, os.PathLike)):
        for path in _paths(os.fspath(what)):
            yield Item(path, path)
    elif isinstance(what, bytes):
        yield Item("image in memory", what)
    elif isinstance(what, Image.Image):
        yield Item(getattr(what, "filename", "") or "image in memory", what)
    elif isinstance(what, np.ndarray):
        if what.dtype != np.uint8 or what.ndim not in (3, 4) or what.shape[-1] != 3 or 0 in what.shape:
            raise DataError(f"an array is {what.dtype} {list(what.shape)}, expected uint8 [H, W, 3] or [N, H, W, 3]")
        for one in what[None] if what.ndim == 3 else what:
            yield Item("image in memory", one)
    else:
        raise DataError(f"a {type(what).__name__} is no image: expected a path, bytes, a PIL.Image or a uint8 array")


def _paths(what: str) -> list[str]:
    path = Path(what)
    if path.is_dir():
        found = [str(path / name) for name in images_below(path)]
        if not found:
            raise DataError(f"{what}: no images in this folder or below it")
        return found
    if path.exists() or not _WILD.intersection(what):
        return [what]  # a file that is missing is said when it is read
    matches = sorted(glob.glob(what, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
    if not matches:
        raise DataError(f"{what}: matches no file")
    return [file for match in matches for file in (_paths(match) if Path(match).is_dir() else [match])]
