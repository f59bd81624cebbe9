"""The files of the ``explain`` verb: what they are called, and how arrays are written."""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np

from paddle_cait.deploy.inputs import Item
from paddle_cait.errors import ConfigError
from paddle_cait.files import PathLike, write_atomic

PICTURES = (".png", ".pdf", ".svg")
ARRAYS = ".npz"


@dataclass(frozen=True)
class Output:
    """The files of one image."""

    paths: tuple[Path, ...]

    def exists(self) -> bool:
        return all(path.exists() for path in self.paths)


def is_file(out: str) -> bool:
    """Whether ``--out`` names one file, by its suffix."""
    return Path(out).suffix.lower() in (*PICTURES, ARRAYS)


def outputs_of(args: argparse.Namespace, items: Sequence[Item]) -> list[Output]:
    """One for each of ``items``, or one alone where a method looks at all of them or at none."""
    if is_file(args.out):
        if len(items) > 1:
            raise ConfigError(f"--out {args.out} is one file, but there are {len(items)} images: give a folder")
        return [Output((Path(args.out),))]
    folder = Path(args.out)
    if folder.is_file():
        raise ConfigError(
            f"--out {args.out}: is a file, expected a folder or a name that ends in {', '.join(PICTURES)}"
        )
    stems = _stems([item.name for item in items]) if items else [""]
    suffixes = args.format or ["png"]
    return [
        Output(tuple(folder / f"{stem}{'_' if stem else ''}{args.method}.{suffix}" for suffix in suffixes))
        for stem in stems
    ]


def _stems(names: Sequence[str]) -> list[str]:
    """What the pictures of the images ``names`` are called, each its own: as the image, longer only where two meet."""
    rules: tuple[Callable[[Path], str], ...] = (
        lambda path: path.stem,
        lambda path: path.name.replace(".", "_"),
        lambda path: "_".join(path.parts[-2:]).replace(".", "_"),
    )
    found: dict[int, str] = {}
    for rule in rules:
        wanted = {i: rule(Path(name)) for i, name in enumerate(names) if i not in found}
        counts = Counter([*wanted.values(), *found.values()])
        found.update({i: stem for i, stem in wanted.items() if counts[stem] == 1})
    return [found.get(i, f"{i}_{rules[-1](Path(name))}") for i, name in enumerate(names)]


def write_arrays(path: PathLike, arrays: dict[str, Any]) -> None:
    """A compressed .npz, in one step."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())
