"""Which files are images, and which of many exist: one directory listing each, no question per file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""As in torchvision's ImageFolder."""

_LISTING_PAYS = 32  # from so many files in one folder on, listing the folder is cheaper than asking for each


def is_image(name: str) -> bool:
    """Whether a file name is an image's; hidden files (``._x.JPEG`` of macOS archives) are not."""
    return name.lower().endswith(IMAGE_EXTENSIONS) and not name.rpartition("/")[2].startswith(".")


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Sorted names of (folders, image files) in ``folder``. Hidden ones and macOS's resource folder are left out."""
    folders, files = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif is_image(entry.name):
                files.append(entry.name)
    return sorted(folders), sorted(files)


def images_below(folder: Path) -> list[str]:
    """All images in ``folder`` and its folders, as paths relative to it, in torchvision ImageFolder's order."""
    found: list[str] = []
    pending = [""]
    while pending:
        prefix = pending.pop(0)
        folders, files = list_folder(folder / prefix)
        found.extend(prefix + name for name in files)
        if prefix.count("/") < 8:  # links that lead in a circle
            pending = [prefix + name + "/" for name in folders] + pending
    return found


def missing_files(root: Path, names: Sequence[str]) -> list[int]:
    """Indices of the ``names`` (relative to ``root``, or absolute) that do not exist."""
    by_folder: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        folder, slash, _ = name.rpartition("/")
        by_folder.setdefault(folder or slash, []).append(i)
    missing = []
    for prefix, indices in by_folder.items():
        if len(indices) < _LISTING_PAYS:
            missing += [i for i in indices if not (root / names[i]).exists()]
            continue
        present = {path.name for path in (root / prefix).iterdir()} if (root / prefix).is_dir() else set()
        missing += [i for i in indices if names[i].rpartition("/")[2] not in present]
    return sorted(missing)
