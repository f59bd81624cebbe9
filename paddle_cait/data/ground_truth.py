"""Labels of the ILSVRC2012 validation images from the development kit's ground truth file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from paddle_cait.data.imagenet import NUM_CLASSES, ilsvrc_id_to_label
from paddle_cait.errors import DataError

GROUND_TRUTH_NAME = "ILSVRC2012_validation_ground_truth.txt"
_PLACES = ("", "data", "ILSVRC2012_devkit_t12/data", "devkit/data")
_IMAGE_NAME = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
# The kit's first ids. The same 50,000 labels circulate in other numberings, which would pass for ids and ruin all.
_FIRST_IDS = [490, 361, 171, 822, 297, 482, 13, 704]


def is_validation_name(name: str) -> bool:
    """Whether ``name`` is ``ILSVRC2012_val_NNNNNNNN.JPEG``, in any folder."""
    return _IMAGE_NAME.fullmatch(name) is not None


def find_ground_truth(folder: Path) -> Path | None:
    """The kit's file in or beside ``folder``, where an unpacked kit has it."""
    candidates = [base / place / GROUND_TRUTH_NAME for base in (folder, folder.parent) for place in _PLACES]
    return next((path for path in candidates if path.is_file()), None)


def validation_labels(names: Sequence[str], path: Path, num_classes: int | None) -> list[int]:
    """Labels 0..999 of validation images: the number in an image's name is the line of its ILSVRC2012_ID."""
    if num_classes not in (None, NUM_CLASSES):
        raise DataError(f"{path}: gives the {NUM_CLASSES} ILSVRC2012 classes, the model has {num_classes}")
    ids = _read_ids(path)
    to_label = ilsvrc_id_to_label()
    labels = []
    for name in names:
        match = _IMAGE_NAME.fullmatch(name)
        if match is None:
            raise DataError(f"{name}: {path} labels only images named ILSVRC2012_val_NNNNNNNN.JPEG; move it elsewhere")
        number = int(match.group(1))
        if not 1 <= number <= len(ids):
            raise DataError(f"{name}: {path} has no line {number} (it has {len(ids)}, the complete file 50000)")
        labels.append(to_label[ids[number - 1]])
    return labels


def _read_ids(path: Path) -> list[int]:
    try:
        rows = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the ground truth file cannot be read ({error})") from error
    while rows and not rows[-1].strip():
        rows.pop()
    ids = []
    for number, row in enumerate(rows, 1):
        text = row.strip()
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= NUM_CLASSES):
            raise DataError(f"{path}:{number}: {text[:40]!r} is not an ILSVRC2012_ID (an integer 1..{NUM_CLASSES})")
        ids.append(int(text))
    first = ids[: len(_FIRST_IDS)]
    if not ids or first != _FIRST_IDS[: len(first)]:
        raise DataError(
            f"{path}: begins with {first}, the development kit's {GROUND_TRUTH_NAME} with {_FIRST_IDS}: "
            "another numbering of the classes; labels 0..999 go into a list file, 'PATH LABEL' per line"
        )
    return ids
