"""Features of labelled images on disk: written as they are computed, kept for the next run, never computed twice.

A folder ``features-DIGEST``, the digest of all that the features depend on, holds

- ``features.f32``: float32 [n, F], a row an image of the list;
- ``labels.i64``: the label of each row that is written, -1 of the others, so that work survives ``kill -9``;
- ``failed.rankK.jsonl``: [index, message] of each image that could not be read;
- ``identity.json``: what the features depend on; it is written last, when the other files have their size.

Memory does not grow with n: ImageNet's 1,281,167 train images are 2 GB at width 384 and 7.9 GB at 1536.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddle_cait.engine.progress import Failed
from paddle_cait.errors import PaddleCaitError
from paddle_cait.files import PathLike, write_atomic

_REAL, _WHOLE = np.dtype("<f4"), np.dtype("<i8")
TO_DO = -1


@dataclass(frozen=True)
class Features:
    """Features of n images: ``features[a:b]`` reads float32 [b - a, F] from the disk.

    ``folder`` holds them; ``width`` is F. ``labels``, ``indices`` (places in the list), ``rows`` (rows of the file):
    int64 [n]. ``skipped``: (index, message) of each image of the list that is absent. ``computed`` images were not
    there before; that took ``seconds``.
    """

    folder: Path
    width: int
    rows: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    skipped: list[Failed]
    computed: int = 0
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> np.ndarray:
        rows = self.rows[part]
        if not len(rows):
            return np.zeros((0, self.width), np.float32)
        first, count = int(rows[0]), int(rows[-1] - rows[0]) + 1
        path, start = self.folder / "features.f32", first * self.width * _REAL.itemsize
        values = np.fromfile(path, _REAL, count * self.width, offset=start)
        return values.reshape(count, self.width)[rows - first]

    def part(self, start: int, end: int) -> Features:
        """The images ``start`` to ``end`` as features of their own."""
        cut = {name: getattr(self, name)[start:end] for name in ("rows", "labels", "indices")}
        return replace(self, **cut)


class FeatureStore:
    """The folder of one extraction; see the top of this file."""

    def __init__(self, folder: PathLike, identity: dict[str, Any]) -> None:
        self.identity = identity
        self.height, self.width = int(identity["wanted"][0]), int(identity["width"])
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = Path(folder) / f"features-{digest}"
        self.values_path, self.labels_path = self.folder / "features.f32", self.folder / "labels.i64"

    def begin(self, wanted: np.ndarray, resume: bool) -> None:
        """Make the folder ready, keeping what is finished, and with ``resume`` also what is not."""
        known = self._is_known()
        if known and self._is_finished(wanted):
            return
        try:
            if not (known and resume):
                shutil.rmtree(self.folder, ignore_errors=True)
            self._check_space()
            if not (self.folder / "identity.json").is_file():
                self._create()
        except OSError as error:
            raise PaddleCaitError(f"{self.folder}: cannot be written ({error.strerror})") from error

    def _is_known(self) -> bool:
        """Is there earlier work, and can it be told that it was with these weights and images?"""
        path = self.folder / "identity.json"
        if not (self.identity["weights"] and self.identity["images"] and path.is_file()):
            return False
        if path.read_bytes() != self._identity_bytes():
            raise PaddleCaitError(f"{path}: names other weights or images than its folder; delete the folder")
        return True

    def _identity_bytes(self) -> bytes:
        return json.dumps(self.identity, indent=2).encode()

    def _is_finished(self, wanted: np.ndarray) -> bool:
        return bool(((self.labels() != TO_DO) | np.isin(wanted, list(self.failed()))).all())

    def _check_space(self) -> None:
        size = self.height * (self.width * _REAL.itemsize + _WHOLE.itemsize)
        have = sum(getattr(path.stat(), "st_blocks", 0) * 512 for path in self.folder.glob("*"))
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if size - have > free:
            raise PaddleCaitError(
                f"{self.folder}: {self.height:,} x {self.width} features take {size / 1e9:.2f} GB, "
                f"{have / 1e9:.2f} GB are there and {free / 1e9:.2f} GB are free: choose a folder on a larger disk"
            )

    def _create(self) -> None:
        with open(self.values_path, "wb") as file:
            file.truncate(self.height * self.width * _REAL.itemsize)  # takes space as rows are written
        np.full(self.height, TO_DO, _WHOLE).tofile(self.labels_path)
        write_atomic(self.folder / "identity.json", self._identity_bytes())

    def labels(self) -> np.ndarray:
        """int64 [n], -1 where the row is not written."""
        sizes = [path.stat().st_size if path.is_file() else 0 for path in (self.values_path, self.labels_path)]
        if sizes != [self.height * self.width * _REAL.itemsize, self.height * _WHOLE.itemsize]:
            raise PaddleCaitError(f"{self.folder}: is damaged (its files have other sizes than they had); delete it")
        return np.fromfile(self.labels_path, _WHOLE)

    def failed(self) -> dict[int, str]:
        """Message of each image that could not be read; one of them may have been read later."""
        found: dict[int, str] = {}
        for path in sorted(self.folder.glob("failed.rank*.jsonl")):
            for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last newline was torn by a kill
                index, message = json.loads(line)
                found[int(index)] = str(message)
        return found

    @contextlib.contextmanager
    def opened(self, rank: int) -> Iterator[None]:
        path = self.folder / f"failed.rank{rank}.jsonl"
        try:
            path.touch()
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)  # a torn line is not continued
            with open(self.values_path, "r+b") as self._values, open(self.labels_path, "r+b") as self._labels:
                self._failed = path.open("ab")
                with self._failed:
                    yield
        except OSError as error:
            raise PaddleCaitError(f"{self.folder}: cannot be written ({error.strerror})") from error

    def append(self, rows: np.ndarray, values: np.ndarray, labels: np.ndarray, failed: list[Failed]) -> None:
        """Write features, then their labels: a row with a label is whole."""
        _put(self._values, rows, values.astype(_REAL, copy=False))
        _put(self._labels, rows, labels.astype(_WHOLE, copy=False))
        for item in failed:
            self._failed.write(json.dumps(item).encode() + b"\n")
        self._failed.flush()

    def finished(self, wanted: np.ndarray, computed: int, seconds: float) -> Features:
        labels, failed = self.labels(), self.failed()
        rows = np.flatnonzero(labels != TO_DO)
        absent = [(int(index), failed.get(int(index), "")) for index in wanted[labels == TO_DO]]
        lost = [index for index, message in absent if not message]
        if lost:
            raise PaddleCaitError(
                f"{self.folder}: {len(lost)} images have no features (the first is {lost[0]} of the list): the folder "
                "is damaged, or not shared by all processes; delete it"
            )
        return Features(self.folder, self.width, rows, labels[rows], wanted[rows], absent, computed, seconds)


def _put(file: BinaryIO, rows: np.ndarray, values: np.ndarray) -> None:
    """Write ``values[i]`` as row ``rows[i]`` of the file, rows that follow each other at once."""
    for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
        if len(part):
            file.seek(int(rows[part[0]]) * values[0].nbytes)
            file.write(values[part].tobytes())
    file.flush()
