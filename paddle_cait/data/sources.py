"""Where labelled images come from: a list file, class folders, or the ILSVRC2012 validation set with its ground truth.

`open_source` looks at what is there and says which reader it used. Nothing is guessed about labels: what cannot be
mapped with certainty is an error that tells what to pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from paddle_cait.data.ground_truth import GROUND_TRUTH_NAME, find_ground_truth, is_validation_name, validation_labels
from paddle_cait.data.image_files import images_below, list_folder, missing_files
from paddle_cait.data.image_list import ImageList, read_list
from paddle_cait.data.imagenet import NUM_CLASSES, imagenet_wnids
from paddle_cait.data.tar_index import TarIndex
from paddle_cait.errors import DataError
from paddle_cait.files import PathLike

LIST_NAME = "val_list.txt"
TAR_NAME = "ILSVRC2012_img_val.tar"
VALIDATION_FOLDERS = ("val", "ILSVRC2012_img_val", "ILSVRC2012_val", "validation")
_OTHER_FOLDERS = {"train", "ILSVRC2012_img_train", "test", "data", "devkit", "ILSVRC2012_devkit_t12"}


class ImageSource:
    """Encoded images and their labels; picklable, cheap to send to worker processes.

    ``names``: paths relative to the root, with forward slashes. ``labels``: 0-based. ``kind``: the reader that was
    used. ``fingerprint``: sha256 over ``"name label\\n"`` of all rows, so that two results can be known to be over the
    same images with the same labels.
    """

    def __init__(self, kind: str, root: Path, names: Sequence[str], labels: Sequence[int], labelled_by: str) -> None:
        self.kind = kind
        self.root = root
        self.names = list(names)
        self.labels = list(labels)
        self.labelled_by = labelled_by

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> bytes:
        """The encoded image. Raises `DataError` if its file cannot be read."""
        try:
            with open(self.root / self.names[i], "rb") as file:
                return file.read()
        except OSError as error:
            raise DataError(f"{self.path(i)}: cannot be read ({error.strerror})") from error

    def path(self, i: int) -> str:
        """Where image ``i`` is, for messages."""
        return str(self.root / self.names[i])

    def describe(self) -> str:
        """One line: how many images of how many classes, which reader found them where, what gave the labels."""
        return (
            f"{len(self)} images of {len(set(self.labels))} classes from {self.root} ({self.kind}: {self.labelled_by})"
        )

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, label in zip(self.names, self.labels):
            digest.update(f"{name} {label}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class TarSource(ImageSource):
    """Images that stay inside a tar; names are those in the tar."""

    def __init__(self, tar: TarIndex, names: Sequence[str], labels: Sequence[int], labelled_by: str) -> None:
        super().__init__("tar", tar.path, names, labels, labelled_by)
        self._tar = tar

    def read(self, i: int) -> bytes:
        return self._tar.read(self.names[i])

    def path(self, i: int) -> str:
        return f"{self.root}:{self.names[i]}"


def open_source(
    root: PathLike,
    list_file: PathLike | None = None,
    ground_truth: PathLike | None = None,
    num_classes: int | None = None,
    image_root: PathLike | None = None,
) -> ImageSource:
    """The labelled images at ``root``, a folder or ``ILSVRC2012_img_val.tar``. The first reader that fits is used:

    1. a list file, ``PATH LABEL`` a line: ``list_file``, or ``val_list.txt`` in the root; paths count from
       ``image_root`` (default: the root);
    2. validation images ``ILSVRC2012_val_NNNNNNNN.JPEG`` in one folder or in the tar, labelled by the development kit's
       ``ILSVRC2012_validation_ground_truth.txt``: ``ground_truth``, or found in or beside the folder;
    3. one folder per class: WordNet ids of ILSVRC2012 are mapped exactly (any subset), other names are numbered in
       sorted order and must be ``num_classes``.

    A folder that holds ``val`` (beside ``train`` and the like) stands for it. Raises `DataError` for whatever does not
    fit: labels outside of ``num_classes``, missing files, images without labels.
    """
    root = Path(root)
    list_path, truth = _label_file(root, list_file), _label_file(root, ground_truth)
    if not root.exists():
        raise DataError(f"{root}: no such file or folder, expected the images of a data set")
    if list_path and truth:
        raise DataError(f"{list_path}, {truth}: a list and a ground truth file both give labels; pass one of them")
    if root.is_file():
        return _open_tar(root, list_path, truth, num_classes)
    if list_path is None and truth is None and (root / LIST_NAME).is_file():
        list_path = root / LIST_NAME
    if list_path:
        return _open_list(root, list_path, num_classes, None if image_root is None else Path(image_root))
    folders, files = list_folder(root)
    if any(is_validation_name(name) for name in files):
        return _open_validation(root, folders, files, truth, num_classes)
    below = next((name for name in VALIDATION_FOLDERS if name in folders), None)
    if below and not set(folders) - set(VALIDATION_FOLDERS) - _OTHER_FOLDERS:
        return open_source(root / below, None, truth or find_ground_truth(root), num_classes)
    if (root / TAR_NAME).is_file():
        return _open_tar(root / TAR_NAME, None, truth, num_classes)
    if truth:
        raise DataError(f"{root}: no images ILSVRC2012_val_NNNNNNNN.JPEG here, which {truth} could label")
    return _open_folders(root, folders, files, num_classes)


def _label_file(root: Path, name: PathLike | None) -> Path | None:
    """A file of labels that was asked for: as it is named, or in the root."""
    if name is None:
        return None
    return root / name if not Path(name).exists() and (root / name).is_file() else Path(name)


def _open_list(root: Path, path: Path, num_classes: int | None, image_root: Path | None) -> ImageSource:
    rows = read_list(path, num_classes)
    base = image_root or root
    missing = missing_files(base, rows.names)
    if missing:
        if len(missing) == len(rows.names) and image_root is None and (root / TAR_NAME).is_file():
            return _open_tar(root / TAR_NAME, path, None, num_classes)
        first = rows.names[missing[0]]
        places = [base / name for name in VALIDATION_FOLDERS] + [base.parent, path.parent]
        found = next((place for place in places if (place / first).exists()), None)
        hint = f"it is in {found}: pass image_root={found}" if found else "paths count from the root; or set image_root"
        raise DataError(
            f"{rows.where(missing[0])}: no file {base / first} "
            f"({len(missing)} of the {len(rows.names)} files listed are missing); {hint}"
        )
    prefix = f"{base}/"
    names = [name[len(prefix) :] if name.startswith(prefix) else name for name in rows.names]
    return ImageSource("list file", base, names, rows.labels, str(path))


def _open_validation(
    root: Path, folders: list[str], files: list[str], truth: Path | None, num_classes: int | None
) -> ImageSource:
    moved = sorted(set(folders) & set(imagenet_wnids()))
    if moved:
        raise DataError(
            f"{root}: has both {len(files)} validation images and class folders ({moved[0]}); finish moving"
        )
    truth = truth or find_ground_truth(root)
    if truth is None:
        raise _no_labels(root)
    return ImageSource("validation images", root, files, validation_labels(files, truth, num_classes), str(truth))


def _open_tar(path: Path, list_path: Path | None, truth: Path | None, num_classes: int | None) -> ImageSource:
    tar = TarIndex(path)
    if not tar.names:
        raise DataError(f"{path}: no images in this tar")
    if list_path is None and truth is None and (path.parent / LIST_NAME).is_file():
        list_path = path.parent / LIST_NAME
    if list_path:
        rows = read_list(list_path, num_classes)
        return TarSource(tar, _names_in_tar(tar, rows), rows.labels, str(list_path))
    truth = truth or find_ground_truth(path.parent)
    if truth is None:
        raise _no_labels(path)
    return TarSource(tar, tar.names, validation_labels(tar.names, truth, num_classes), str(truth))


def _names_in_tar(tar: TarIndex, rows: ImageList) -> list[str]:
    """The list's names as the tar has them: lists often say ``val/X.JPEG`` where the tar says ``X.JPEG``."""
    known = {name: name for name in tar.names}
    by_last: dict[str, list[str]] = {}
    for name in tar.names:
        by_last.setdefault(name.rpartition("/")[2], []).append(name)
    known.update({last: names[0] for last, names in by_last.items() if len(names) == 1})
    found = [known.get(name) or known.get(name.rpartition("/")[2]) for name in rows.names]
    missing = [row for row, name in enumerate(found) if name is None]
    if missing:
        raise DataError(
            f"{rows.where(missing[0])}: {rows.names[missing[0]]} is not in {tar.path} "
            f"({len(missing)} of the {len(rows.names)} files listed are missing)"
        )
    return [name for name in found if name is not None]


def _no_labels(root: Path) -> DataError:
    beside = root.parent / LIST_NAME
    hint = f"; {beside} exists: pass the folder {root.parent}, or this list" if beside.is_file() else ""
    return DataError(
        f"{root}: validation images without labels; pass a list file (lines 'ILSVRC2012_val_00000001.JPEG 65'), or the "
        f"development kit's {GROUND_TRUTH_NAME}, or move the images into one folder per class{hint}"
    )


def _open_folders(root: Path, folders: list[str], files: list[str], num_classes: int | None) -> ImageSource:
    if not folders:
        found = f"{len(files)} images without labels" if files else "no images"
        raise DataError(f"{root}: {found}; expected one folder per class, or {LIST_NAME} ('PATH LABEL' per line)")
    images = {folder: images_below(root / folder) for folder in folders}
    if not any(images.values()):
        raise DataError(f"{root}: no images in its {len(folders)} folders; expected one folder per class")
    labels, how = _folder_labels(root, folders, num_classes)
    empty = [folder for folder in folders if not images[folder]]
    if empty and how != "WordNet ids":
        raise DataError(f"{root / empty[0]}: no images, yet the folder counts as a class; fill it or remove it")
    rows = [(f"{folder}/{name}", labels[folder]) for folder in folders for name in images[folder]]
    return ImageSource("class folders", root, [row[0] for row in rows], [row[1] for row in rows], how)


def _folder_labels(root: Path, folders: list[str], num_classes: int | None) -> tuple[dict[str, int], str]:
    """(label of each folder, how it was found)."""
    by_wnid = {wnid: label for label, wnid in enumerate(imagenet_wnids())}
    unknown = [folder for folder in folders if folder not in by_wnid]
    if num_classes in (None, NUM_CLASSES):
        if not unknown:
            return {folder: by_wnid[folder] for folder in folders}, "WordNet ids"
        if len(unknown) < len(folders):
            known = next(folder for folder in folders if folder in by_wnid)
            raise DataError(
                f"{root / unknown[0]}: not a class of ILSVRC2012, as {known} is; move one of them elsewhere"
            )
    if len(folders) == 1 or not set(folders) - set(VALIDATION_FOLDERS) - _OTHER_FOLDERS:
        raise DataError(f"{root}: {', '.join(folders)}: folders, but not of classes; pass one, as {root / folders[0]}")
    if num_classes is not None and len(folders) != num_classes:
        raise DataError(
            f"{root}: {len(folders)} class folders for {num_classes} classes; labels follow their sorted names, so "
            "a missing or extra folder shifts every label after it: complete the folders, or pass a list file"
        )
    return {folder: label for label, folder in enumerate(folders)}, "sorted folder names"
