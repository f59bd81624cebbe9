"""The user's own photographs: training and validation images, and what their classes are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddle_cait.data.class_folders import folder_labels
from paddle_cait.data.class_names import read_names
from paddle_cait.data.image_files import list_folder
from paddle_cait.data.image_list import ImageList, read_list
from paddle_cait.data.sources import ImageSource, open_source
from paddle_cait.errors import DataError
from paddle_cait.files import PathLike

TRAIN_LIST, VAL_LIST = "train_list.txt", "val_list.txt"
NAME_FILES = ("labels.txt", "label_list.txt")
_SPLIT = "`paddle-cait split` makes the two lists from class folders"
_MOST_UNNAMED = 100_000  # classes; ImageNet-21k has 21,843


@dataclass(frozen=True)
class TrainingData:
    """``train``, ``val``: the images. ``names``: of the classes, in the order of their labels."""

    train: ImageSource
    val: ImageSource
    names: list[str]

    @property
    def num_classes(self) -> int:
        """How many names there are; a class may have no image."""
        return len(self.names)

    def notes(self) -> list[str]:
        """What is unusual and no mistake."""
        shown = Counter(self.train.labels)
        absent = [name for label, name in enumerate(self.names) if not shown[label]]
        both = set(self.train.names) & set(self.val.names) if self.train.root == self.val.root else set()
        notes = []
        if absent:
            notes.append(
                f"{len(absent)} of {len(self.names)} classes have no training image, the first is {absent[0]!r}"
            )
        if both:
            notes.append(
                f"{len(both)} of {len(self.val)} validation images are training images too, the first is "
                f"{min(both)}: accuracies will be too high"
            )
        return notes


def open_training_data(
    root: PathLike,
    train_list: PathLike | None = None,
    val_list: PathLike | None = None,
    class_names: PathLike | None = None,
) -> TrainingData:
    """Open what is at ``root``: lists ``PATH LABEL`` (``train_list.txt``, ``val_list.txt``, as PaddleClas has them),
    or folders ``train`` and ``val`` with one folder per class.

    Names come from ``class_names`` (one a line), ``labels.txt`` or ``label_list.txt`` in the root, or the folders.
    Every line and file is looked at before anything is trained; `DataError` says which is wrong.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder, expected the training images")
    lists = [_find_list(root, given, name) for given, name in ((train_list, TRAIN_LIST), (val_list, VAL_LIST))]
    if all(lists):
        return _from_lists(root, lists[0], lists[1], class_names)  # type: ignore[arg-type]
    if any(lists):
        missing = TRAIN_LIST if lists[0] is None else VAL_LIST
        raise DataError(f"{root}: there is no {missing} beside the other list; {_SPLIT}")
    return _from_folders(root, class_names)


def _find_list(root: Path, given: PathLike | None, name: str) -> Path | None:
    if given is None:
        return root / name if (root / name).is_file() else None
    path = Path(given)
    return root / path if not path.exists() and (root / path).is_file() else path


def _from_lists(root: Path, train: Path, val: Path, class_names: PathLike | None) -> TrainingData:
    lists = [read_list(path) for path in (train, val)]
    for rows in lists:
        several = next((row for row, labels in enumerate(rows.right) if len(labels) > 1), None)
        if several is not None:
            raise DataError(f"{rows.where(several)}: the image has several labels; training needs one for each")
    given = class_names or next((root / name for name in NAME_FILES if (root / name).is_file()), None)
    names = _read_names(given) if given is not None else _numbers(lists)
    try:
        sources = [open_source(root, path, num_classes=len(names)) for path in (train, val)]
    except DataError as error:
        if any(max(rows.labels) >= len(names) for rows in lists):
            raise DataError(f"{error}; {given} names {len(names)}") from error
        raise
    return TrainingData(sources[0], sources[1], names)


def _numbers(lists: Sequence[ImageList]) -> list[str]:
    """Names for the classes of lists that come without."""
    largest = max(max(rows.labels) for rows in lists)
    where = next(rows.where(rows.labels.index(largest)) for rows in lists if largest in rows.labels)
    if largest >= _MOST_UNNAMED:
        raise DataError(
            f"{where}: the label {largest} means {largest + 1:,} classes; mend it, or name all in labels.txt"
        )
    if largest < 1:
        raise DataError(f"{where}: all labels are {largest}; expected at least two classes, 0 and 1")
    return [str(label) for label in range(largest + 1)]


def _from_folders(root: Path, class_names: PathLike | None) -> TrainingData:
    below = list_folder(root)[0]
    if "train" not in below or "val" not in below:
        found = f"the folders {', '.join(below[:3])}" if below else "no folders"
        raise DataError(
            f"{root}: found {found}, expected {TRAIN_LIST} and {VAL_LIST}, or folders train and val; {_SPLIT}"
        )
    classes = {part: list_folder(root / part)[0] for part in ("train", "val")}
    odd = sorted(set(classes["train"]) ^ set(classes["val"]))
    if odd:
        where, other = ("train", "val") if odd[0] in classes["train"] else ("val", "train")
        raise DataError(f"{root / where / odd[0]}: a class that {root / other} has not; both need the same folders")
    folders = classes["train"]
    if len(folders) == 1:
        raise DataError(f"{root / 'train'}: holds one class folder, {folders[0]}; expected at least two")
    for folder in folders:
        if not _is_text(folder):
            raise DataError(f"{root / 'train'}: the folder {folder!r} has no name in UTF-8, on one line; rename it")
    labels = folder_labels(root / "train", folders, len(folders))[0] if folders else {}
    names = _read_names(class_names) if class_names else sorted(folders, key=labels.__getitem__)
    if len(names) != len(folders):
        raise DataError(f"{class_names}: holds {len(names)} names, {root / 'train'} has {len(folders)} class folders")
    sources = [open_source(root / part, num_classes=len(folders)) for part in ("train", "val")]
    return TrainingData(sources[0], sources[1], names)


def _read_names(path: PathLike) -> list[str]:
    names = read_names(path)
    if len(names) < 2 or "" in names:
        raise DataError(f"{path}: expected the classes' names, one a line and at least two, without empty lines")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}: the name {twice[0]!r} stands twice")
    return names


def _is_text(name: str) -> bool:
    try:
        return name.encode().decode().splitlines() == [name]
    except UnicodeEncodeError:  # bytes of another encoding
        return False
