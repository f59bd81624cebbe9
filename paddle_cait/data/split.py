"""Training, validation and test lists from one folder per class: stratified, and the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paddle_cait.data.image_files import images_below, list_folder
from paddle_cait.errors import DataError
from paddle_cait.files import PathLike, atomic_writers

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """``rows``: part -> (path relative to the root, label), in the order of the classes; ``names``: of the classes."""

    names: list[str]
    rows: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    def counts(self) -> dict[str, list[int]]:
        """Part -> images of each class."""
        return {
            part: np.bincount([label for _, label in rows], minlength=len(self.names)).tolist()
            for part, rows in self.rows.items()
        }


def split_folders(root: PathLike, val: float = 0.1, test: float = 0.0, seed: int = 0) -> Split:
    """Divide the images of each class folder of ``root``: the shares ``val`` and ``test`` of each class, rounded, at
    least one image each, and the rest to train with. Raises :class:`DataError` for a class with too few images."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder, expected one folder per class")
    if not 0 < val < 1 or not 0 <= test < 1 or val + test >= 1:
        raise DataError(f"val is {val} and test {test}, expected shares of 1 that leave something to train with")
    names = list_folder(root)[0]
    if len(names) < 2:
        raise DataError(f"{root}: expected a folder for each of at least two classes, found {len(names)}")
    split = Split(names, {part: [] for part in PARTS if part != "test" or test})
    needed = len(split.rows)
    for label, name in enumerate(names):
        images = images_below(root / name)
        if len(images) < needed:
            raise DataError(f"{root / name}: {len(images)} images, expected at least {needed}, one for each list")
        order = np.random.default_rng([seed, label]).permutation(len(images))
        ends = np.cumsum([max(1, round(share * len(images))) for share in (val, test) if share])
        ends = np.minimum(ends, len(images) - 1 - np.arange(len(ends))[::-1])
        chosen = dict(zip(("val", "test"), np.split(order, ends)))
        chosen["train"] = order[ends[-1] :]
        for part in split.rows:
            split.rows[part] += [(f"{name}/{images[i]}", label) for i in sorted(chosen[part])]
    return split


def write_split(split: Split, folder: PathLike, force: bool = False) -> list[Path]:
    """``train_list.txt``, ``val_list.txt``, perhaps ``test_list.txt``, and ``labels.txt``: all of them or none."""
    paths = [Path(folder) / "labels.txt", *(Path(folder) / f"{part}_list.txt" for part in split.rows)]
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise DataError(f"{there[0]}: exists already; --force writes all lists anew")
    texts = ["".join(f"{name}\n" for name in split.names)]
    texts += ["".join(f"{path} {label}\n" for path, label in rows) for rows in split.rows.values()]
    with atomic_writers(*paths) as files:
        for file, text in zip(files, texts):
            file.write(text.encode("utf-8", "surrogateescape"))
    return paths
