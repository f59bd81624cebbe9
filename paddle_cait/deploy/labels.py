"""The names that go into ``labels.txt``."""

from __future__ import annotations

from collections.abc import Sequence

from paddle_cait.data.imagenet import NUM_CLASSES, imagenet_class_names
from paddle_cait.deploy.class_names import names_of
from paddle_cait.errors import DataError
from paddle_cait.files import PathLike

LABELS = "labels.txt"


def class_names(num_classes: int, given: PathLike | Sequence[str] | None) -> list[str] | None:
    """Those ``given``, a list or a file; else ImageNet's for 1,000 classes; else none."""
    if given is None:
        return imagenet_class_names() if num_classes == NUM_CLASSES else None
    names = names_of(given, num_classes)
    if "" in names:
        raise DataError(f"{given}:{names.index('') + 1}: the line is empty, expected a class name")
    return names
