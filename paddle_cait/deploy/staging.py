"""A folder that appears whole or not at all; an older one is replaced by it or stays as it was."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from paddle_cait.deploy.manifest import MANIFEST
from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.files import PathLike


def check_target(out_dir: PathLike, overwrite: bool) -> Path:
    """The folder to write, as an absolute path. Only another export, and only if asked for, is overwritten."""
    target = Path(out_dir).resolve()
    if not target.exists():
        return target
    if not (target / MANIFEST).is_file():
        raise ConfigError(f"{out_dir}: exists and is no export (has no {MANIFEST}), so it stays: give another folder")
    if not overwrite:
        raise ConfigError(f"{out_dir}: holds an export already; give --overwrite (overwrite=True), or another folder")
    return target


@contextlib.contextmanager
def staged(target: Path) -> Iterator[tuple[Path, Path]]:
    """(folder that becomes ``target`` after the block, folder for intermediates); on errors no trace of either."""
    work = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(work, ignore_errors=True)  # of a killed process that had the same number
        (work / "new").mkdir(parents=True)
        (work / "scratch").mkdir()
    except OSError as error:
        raise PaddleCaitError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        yield work / "new", work / "scratch"
        _replace(work / "new", target, work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace(new: Path, target: Path, old: Path) -> None:
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
