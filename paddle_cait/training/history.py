"""What a run reports while it goes: a row an epoch, as CSV always and as VisualDL's scalars on request."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddle_cait.errors import ConfigError
from paddle_cait.files import write_atomic

COLUMNS = (
    "epoch", "updates", "lr", "train_loss", "val_loss", "val_top1", "val_top5", "val_top1_correct", "val_n",
    "images_per_second", "data_seconds", "seconds",
)  # fmt: skip


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


class Scalars:
    """VisualDL's writer, if it was asked for."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is not None:
            try:
                from visualdl import LogWriter
            except ImportError as error:
                raise ConfigError("--visualdl needs it: pip install visualdl") from error
            self._writer = LogWriter(logdir=str(folder))

    def add(self, row: dict[str, Any]) -> None:
        if self._writer is not None:
            for key in COLUMNS[2:]:
                if key in row:
                    self._writer.add_scalar(tag=key, value=float(row[key]), step=int(row["epoch"]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
