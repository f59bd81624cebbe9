"""The files that visitors take home, and how long they stay here."""

from __future__ import annotations

import io
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paddle_cait.errors import ConfigError
from paddle_cait.files import write_atomic

if TYPE_CHECKING:
    from paddle_cait.app.choice import Choice
    from paddle_cait.app.studio import Studio

FORMATS = ("png", "pdf", "npz")
KEPT = 600  # seconds: gradio serves a copy of its own


def write_file(studio: Studio, choice: Choice, alpha: float, form: str, folder: Path) -> Path:
    """The picture in ``form``, png, pdf or npz, below ``folder``; older ones there are deleted."""
    if form not in FORMATS:
        raise ConfigError(f"format is {form!r}, expected one of {', '.join(FORMATS)}")
    sweep(folder)
    stem = "" if choice.upload is None else f"{Path(choice.upload).stem}_"
    path = folder / uuid.uuid4().hex / f"{stem}{choice.method}.{form}"
    if form == "npz":
        picture = studio.picture(choice)
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {**picture.arrays, "caption": np.array(studio.caption(choice, picture))}
        np.savez_compressed(buffer, **arrays)
        write_atomic(path, buffer.getvalue())
    else:
        from paddle_cait.explain.render import save_figure

        save_figure(studio.figure(choice, alpha), path)
    return path


def sweep(folder: Path, kept: float = KEPT) -> None:
    """Delete what was written there more than ``kept`` seconds ago."""
    for path in folder.glob("*/*"):
        if time.time() - path.stat().st_mtime > kept:
            path.unlink(missing_ok=True)
            path.parent.rmdir()
