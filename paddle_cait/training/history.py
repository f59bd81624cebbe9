"""What a run reports while it goes: a row an epoch, as CSV always and as VisualDL's scalars on request."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddle_cait.engine.result import EvalResult
from paddle_cait.errors import ConfigError
from paddle_cait.files import write_atomic

COLUMNS = (
    "epoch", "updates", "lr", "train_loss", "val_loss", "val_top1", "val_top5", "val_top1_correct", "val_n",
    "unreadable", "images_per_second", "data_seconds", "seconds",
)  # fmt: skip


def scores(result: EvalResult) -> dict[str, Any]:
    """What a row says of the validation images."""
    row = {"val_loss": result.loss, "val_top1": result.top1, "val_top5": result.top5}
    return {**row, "val_top1_correct": result.top1_correct, "val_n": result.n}


def standing(row: dict[str, Any]) -> tuple[float, float]:
    """What the best epoch is the highest of: top-1, and among equals the lower loss."""
    return row["val_top1"], -row["val_loss"]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """All rows anew: a run that was killed and resumed has each epoch once."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _short(row.get(key, "")) for key in COLUMNS})
    write_atomic(path, text.getvalue().encode())


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def visualdl_writer() -> Any:
    """VisualDL's ``LogWriter``. Raises :class:`ConfigError` where it cannot be imported."""
    try:
        from visualdl import LogWriter
    except ImportError as error:
        raise ConfigError(
            f"--visualdl: VisualDL cannot be imported ({error}); pip install visualdl, or leave the flag out: log.csv "
            "holds the same numbers"
        ) from error
    return LogWriter


class Scalars:
    """VisualDL's scalars in ``folder``, a point an epoch; none without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None if folder is None else visualdl_writer()(logdir=str(folder))

    def add(self, row: dict[str, Any]) -> None:
        if self._writer is not None:
            for key in COLUMNS[2:]:
                if key in row:
                    self._writer.add_scalar(tag=key, value=float(row[key]), step=int(row["epoch"]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
