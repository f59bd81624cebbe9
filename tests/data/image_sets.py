"""Small image sets on a disk, of files that hold their own names."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from paddle_cait.data.ground_truth import GROUND_TRUTH_NAME
from paddle_cait.data.sources import ImageSource

# The kit's first five ids and the labels of these images, as published lists have them.
IDS, LABELS = [490, 361, 171, 822, 297], [65, 970, 230, 809, 516]
VALIDATION = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 6)]


def fill(root: Path, *names: str) -> Path:
    """Files that hold their own name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def ground_truth(folder: Path) -> Path:
    return write(folder / GROUND_TRUTH_NAME, "".join(f"{i}\n" for i in IDS))


def pairs(source: ImageSource) -> list[tuple[str, int]]:
    return list(zip(source.names, source.labels))


def make_tar(path: Path, names: list[str], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return path
