"""List files: ``PATH LABEL`` per line, as PaddleClas and AI Studio data sets have them (``val_list.txt``).

Where several classes are right for an image: ``PATH 3,17``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paddle_cait.errors import DataError


@dataclass(frozen=True)
class ImageList:
    """The rows of a list file: ``right[i]`` are the labels of row ``i``, ``lines[i]`` its line number, for messages."""

    path: Path
    names: list[str]
    right: list[tuple[int, ...]]
    lines: list[int]

    @property
    def labels(self) -> list[int]:
        """The first label of each row; for most lists the only one."""
        return [labels[0] for labels in self.right]

    @property
    def several(self) -> bool:
        """Whether some row has more than one label."""
        return any(len(labels) > 1 for labels in self.right)

    def where(self, row: int) -> str:
        """``FILE:LINE`` of a row."""
        return f"{self.path}:{self.lines[row]}"


def read_list(path: Path, num_classes: int | None = None) -> ImageList:
    """Read a list file. Separator: spaces or a tab before the label; names may contain spaces.

    A byte order mark, CRLF, blank lines and lines that begin with ``#`` are fine. Raises `DataError` with
    ``FILE:LINE`` for a line of another form, a label outside of 0..``num_classes`` - 1 or given twice for an image, and
    a path that comes twice.
    """
    rows = ImageList(path, [], [], [])
    seen: dict[str, int] = {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = line.rsplit(None, 1)
        if len(parts) != 2:
            raise DataError(
                f"{path}:{number}: expected 'PATH LABEL' with a space or a tab between, found {line[:80]!r}"
            )
        name, labels = parts[0], _labels(parts[1], f"{path}:{number}")
        if name.endswith(","):
            raise DataError(f"{path}:{number}: several labels are written without spaces, 'PATH 3,17'")
        name = name[2:] if name.startswith("./") else name
        if name in seen:
            raise DataError(f"{path}:{number}: {name} is already in line {seen[name]}; each image may count once")
        seen[name] = number
        rows.names.append(name)
        rows.right.append(labels)
        rows.lines.append(number)
    if not rows.names:
        raise DataError(f"{path}: the list is empty, expected lines 'PATH LABEL'")
    _check_labels(rows, num_classes)
    return rows


def _labels(text: str, where: str) -> tuple[int, ...]:
    """``3`` or ``3,17``."""
    labels = text.split(",")
    for label in labels:
        if not (label.isascii() and label.removeprefix("-").isdigit() and len(label) < 19):
            raise DataError(
                f"{where}: the label {label[:40]!r} is not an integer, expected 'PATH LABEL' or 'PATH 3,17'"
            )
    numbers = tuple(map(int, labels))
    if len(set(numbers)) < len(numbers):
        raise DataError(f"{where}: {text[:40]} has a label twice")
    return numbers


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the list file cannot be read ({error.strerror})") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:1000]:
        raise DataError(f"{path}: is not a text file in UTF-8; save the list as UTF-8")
    return data.decode("utf-8-sig", "surrogateescape")  # a name in another encoding still names its file


def _check_labels(rows: ImageList, num_classes: int | None) -> None:
    for row, labels in enumerate(rows.right):
        if min(labels) < 0:
            raise DataError(f"{rows.where(row)}: the label {min(labels)} is negative, expected 0 or more")
        if num_classes is not None and max(labels) >= num_classes:
            every = [label for labels in rows.right for label in labels]
            hint = ""
            if min(every) == 1 and max(every) == num_classes:
                hint = f"; all labels are 1..{num_classes}, so they seem to count from 1: subtract 1 from each"
            raise DataError(
                f"{rows.where(row)}: the label {max(labels)} does not fit {num_classes} classes "
                f"(0..{num_classes - 1}){hint}"
            )
