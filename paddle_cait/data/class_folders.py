"""One folder per class: which label each folder has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddle_cait.data.imagenet import NUM_CLASSES, imagenet_wnids
from paddle_cait.errors import DataError

VALIDATION_FOLDERS = ("val", "ILSVRC2012_img_val", "ILSVRC2012_val", "validation")
PARTS = {*VALIDATION_FOLDERS, "train", "ILSVRC2012_img_train", "test", "data", "devkit", "ILSVRC2012_devkit_t12"}
"""Folders of a data set that are no classes."""


def folder_labels(root: Path, folders: Sequence[str], num_classes: int | None) -> tuple[dict[str, int], str]:
    """(label of each of the sorted ``folders`` in ``root``, how it was found). Uncertain labels are a `DataError`."""
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
    numbers = [int(folder) for folder in folders if folder.isascii() and folder.isdigit()]
    if len(numbers) == NUM_CLASSES == len(folders):
        _check_imagenet_numbers(root, numbers, num_classes)
        return dict(zip(folders, numbers)), "the folders' names are the labels"
    if len(folders) == 1 or not set(folders) - PARTS:
        raise DataError(f"{root}: {', '.join(folders)}: folders, but not of classes; pass one, as {root / folders[0]}")
    if num_classes is not None and len(folders) != num_classes:
        if not unknown:
            raise DataError(
                f"{root}: {len(folders)} folders of ILSVRC2012 classes ({folders[0]}), the model has {num_classes}; "
                f"pass weights with the {NUM_CLASSES} classes, or one folder for each of the {num_classes}"
            )
        raise DataError(
            f"{root}: {len(folders)} class folders for {num_classes} classes; labels follow their sorted names, so "
            "a missing or extra folder shifts every label after it: complete the folders, or pass a list file"
        )
    as_text = len(numbers) == len(folders) and numbers != sorted(numbers)
    how = "sorted folder names" + (", as text: 10 before 2" if as_text else "")
    return {folder: label for label, folder in enumerate(folders)}, how


def _check_imagenet_numbers(root: Path, numbers: list[int], num_classes: int | None) -> None:
    """A thousand folders named by numbers are ImageNet's classes only as labels 0..999, the form of ImageNetV2."""
    if sorted(numbers) != list(range(NUM_CLASSES)):
        raise DataError(
            f"{root}: {NUM_CLASSES} folders named by numbers {min(numbers)}..{max(numbers)}, which are not the labels "
            f"0..{NUM_CLASSES - 1}; rename them to WordNet ids, or pass a list file"
        )
    if num_classes not in (None, NUM_CLASSES):
        raise DataError(
            f"{root}: folders 0..{NUM_CLASSES - 1} are the classes of ILSVRC2012, the model has {num_classes} classes"
        )
