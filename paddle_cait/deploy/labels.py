"""The names that go into ``labels.txt``."""

from __future__ import annotations

from paddle_cait.data.class_names import read_names
from paddle_cait.data.imagenet import NUM_CLASSES, imagenet_class_names
from paddle_cait.errors import DataError
from paddle_cait.files import PathLike

LABELS = "labels.txt"


def class_names(num_classes: int, given: PathLike | None) -> list[str] | None:
    """Those of the file ``given``; else ImageNet's for 1,000 classes; else none."""
    if given is None:
        return imagenet_class_names() if num_classes == NUM_CLASSES else None
    names = read_names(given)
    if len(names) != num_classes:
        raise DataError(f"{given}: holds {len(names)} names, the model has {num_classes} classes; expected one a line")
    if "" in names:
        raise DataError(f"{given}:{names.index('') + 1}: the line is empty, expected a class name")
    return names
