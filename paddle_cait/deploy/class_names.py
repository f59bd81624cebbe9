"""What the classes are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from paddle_cait.data.class_names import read_names
from paddle_cait.deploy.manifest import MANIFEST, Manifest
from paddle_cait.errors import DataError, PaddleCaitError
from paddle_cait.files import PathLike


def find_names(path: Path, manifest: Manifest, given: PathLike | Sequence[str] | None) -> list[str] | None:
    """The classes' names: those ``given`` (a list, or a file), or those of the exported folder ``path``, or none."""
    if given is None and manifest.labels:
        if Path(manifest.labels).name != manifest.labels:
            raise PaddleCaitError(f"{path / MANIFEST}: labels is {manifest.labels!r}, expected a file of the folder")
        given = path / manifest.labels
    return None if given is None else names_of(given, manifest.num_classes)


def names_of(given: PathLike | Sequence[str], num_classes: int) -> list[str]:
    """A list of names, or those of a file, one for each class."""
    names = read_names(given) if isinstance(given, (str, os.PathLike)) else list(given)
    if len(names) != num_classes:
        is_file = isinstance(given, (str, os.PathLike))
        where, how = (given, "; expected one a line") if is_file else ("class_names", "")
        raise DataError(f"{where}: holds {len(names)} names, the model has {num_classes} classes{how}")
    return names
