"""List files: ``PATH LABEL`` per line, as PaddleClas and AI Studio data sets have them (``val_list.txt``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paddle_cait.errors import DataError


@dataclass(frozen=True)
class ImageList:
    """The rows of a list file; ``lines[i]`` is the line number of row ``i``, for messages."""

    path: Path
    names: list[str]
    labels: list[int]
    lines: list[int]

    def where(self, row: int) -> str:
        """``FILE:LINE`` of a row."""
        return f"{self.path}:{self.lines[row]}"


def read_list(path: Path, num_classes: int | None = None) -> ImageList:
    """Read a list file. Separator: spaces or a tab before the label; names may contain spaces.

    A byte order mark, CRLF, blank lines and lines that begin with ``#`` are fine. Raises `DataError` with
    ``FILE:LINE`` for a line of another form, a label outside of 0..``num_classes`` - 1, and a path that comes twice.
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
        name, label = parts[0], parts[1]
        if not (label.isascii() and label.removeprefix("-").isdigit()):
            raise DataError(f"{path}:{number}: the label {label[:40]!r} is not an integer, expected 'PATH LABEL'")
        name = name[2:] if name.startswith("./") else name
        if name in seen:
            raise DataError(f"{path}:{number}: {name} is already in line {seen[name]}; each image may count once")
        seen[name] = number
        rows.names.append(name)
        rows.labels.append(int(label))
        rows.lines.append(number)
    if not rows.names:
        raise DataError(f"{path}: the list is empty, expected lines 'PATH LABEL'")
    _check_labels(rows, num_classes)
    return rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the list file cannot be read ({error.strerror})") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:1000]:
        raise DataError(f"{path}: is not a text file in UTF-8; save the list as UTF-8")
    return data.decode("utf-8-sig", "surrogateescape")  # a name in another encoding still names its file


def _check_labels(rows: ImageList, num_classes: int | None) -> None:
    low, high = min(rows.labels), max(rows.labels)
    if low < 0:
        raise DataError(f"{rows.where(rows.labels.index(low))}: the label {low} is negative, expected 0 or more")
    if num_classes is not None and high >= num_classes:
        row = next(i for i, label in enumerate(rows.labels) if label >= num_classes)
        hint = ""
        if low == 1 and high == num_classes:
            hint = f"; all labels are 1..{num_classes}, so they seem to count from 1: subtract 1 from each"
        raise DataError(
            f"{rows.where(row)}: the label {rows.labels[row]} does not fit {num_classes} classes "
            f"(0..{num_classes - 1}){hint}"
        )
