"""An evaluation's memory: what was evaluated survives ``kill -9`` and is never evaluated twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.engine.metrics import Rows
from paddle_cait.errors import PaddleCaitError
from paddle_cait.files import PathLike, write_atomic

Failed = tuple[int, str]


class Progress:
    """A folder with ``identity.json`` (what is being evaluated) and one log per process, a JSON line a finished batch.

    A line is written with one system call, so a kill leaves whole lines and at most a torn last one, which is dropped.
    Any number of processes may resume what any other number began.
    """

    def __init__(self, folder: PathLike, identity: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        self.identity = identity
        self.folder = Path(folder) / f"progress-{digest}"

    def begin(self, resume: bool) -> None:
        """Make the folder ready; without ``resume`` earlier progress of the same evaluation is discarded."""
        if not resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        try:
            write_atomic(self.folder / "identity.json", json.dumps(self.identity, indent=2).encode())
        except OSError as error:
            raise PaddleCaitError(f"{self.folder}: cannot be written ({error.strerror})") from error

    def read(self) -> tuple[Rows, list[Failed]]:
        """Everything that any process finished so far."""
        parts: list[Rows] = []
        failed: list[Failed] = []
        for log in sorted(self.folder.glob("rank*.jsonl")):
            for line in log.read_bytes().split(b"\n")[:-1]:  # what follows the last newline was torn by a kill
                entry = json.loads(line)
                failed.extend((int(index), str(message)) for index, message in entry.pop("failed"))
                columns = {name: np.asarray(values) for name, values in entry.items()}
                if len(columns["index"]):
                    parts.append(Rows(**columns))
        return Rows.join(parts), failed

    def open_log(self, rank: int) -> None:
        path = self.folder / f"rank{rank}.jsonl"
        self._log = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        whole = path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._log, whole)
        os.lseek(self._log, 0, os.SEEK_END)

    def append(self, rows: Rows, failed: list[Failed]) -> None:
        entry: dict[str, Any] = {name: getattr(rows, name).tolist() for name in Rows.__dataclass_fields__}
        os.write(self._log, json.dumps({**entry, "failed": failed}).encode() + b"\n")

    def close(self) -> None:
        os.close(self._log)

    def remove(self) -> None:
        """The evaluation is complete and reported: forget it."""
        shutil.rmtree(self.folder, ignore_errors=True)
