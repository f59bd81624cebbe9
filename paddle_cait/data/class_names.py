"""Files of class names."""

from __future__ import annotations

from pathlib import Path

from paddle_cait.errors import DataError
from paddle_cait.files import PathLike

_MOST_BYTES = 16 << 20


def read_names(path: PathLike) -> list[str]:
    """Class names, one a line. A number before each (``281 tabby``, PaddleClas) is left out if it is the label."""
    try:
        if Path(path).stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB, expected one class name a line")
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise DataError(f"{path}: the class names cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text, expected one class name a line") from error
    while lines and not lines[-1]:
        lines.pop()
    parts = [line.split(maxsplit=1) for line in lines]
    if all(len(part) == 2 and part[0] == str(k) for k, part in enumerate(parts)):
        return [name for _, name in parts]
    return lines
