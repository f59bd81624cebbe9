"""A worker process, seen by the conductor: started, asked, ended."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from paddle_cait.errors import PaddleCaitError

_START = (
    "import sys; del sys.path[0]\nfrom paddle_cait.bench.worker import main; main()"  # sys.path[0]: the work folder
)
_LIMIT = 1800.0  # seconds for an answer; torch.compile of a deep model takes minutes
_MOST = 300  # characters of a reason


class WorkerError(PaddleCaitError):
    """A worker that could not do what it was asked; the message is the reason in its row."""


class AbsentError(WorkerError):
    """Something that is needed is not there; nothing has been tried."""


class Channel:
    """``with Channel(spec, threads, scratch) as worker: worker.ask({...})``; ``ready`` is its first answer.

    Raises :class:`WorkerError` where the worker cannot prepare itself, gives no answer or dies. Workers are in a
    session of their own, so that Ctrl-C reaches the conductor alone.
    """

    def __init__(self, spec: dict[str, Any], threads: int, scratch: Path) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment(threads, scratch),
            start_new_session=True,
        )
        try:
            self.ready = self.ask({**spec, "threads": threads})
        except BaseException:
            self.end()
            raise

    def ask(self, request: dict[str, Any], limit: float = _LIMIT) -> dict[str, Any]:
        """The worker's answer to one request."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise WorkerError(self._death()) from error
        if not select.select([self.process.stdout], [], [], limit)[0]:
            self.end()
            raise WorkerError(f"no answer in {limit:.0f} seconds")
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise WorkerError(self._death())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise WorkerError(without_paths(answer["failed"])[:_MOST])
        return answer

    def end(self) -> None:
        """End this process and what it has started, and no other."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads a group of its own
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._said):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:  # a request that it never read
                continue

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def _death(self) -> str:
        status = self.process.wait()
        if status < 0:
            return f"its process was ended by {signal.Signals(-status).name}"
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read()[-8000:].decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "it said nothing")
        return without_paths(f"its process ended with status {status}: {last}")[:_MOST]


def environment(threads: int, scratch: Path) -> dict[str, str]:
    """The same number of threads for every library, and whatever else the user has set."""
    numbers = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {
        **os.environ,
        **numbers,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONWARNINGS": "ignore",
        "GLOG_minloglevel": "2",
        "HF_HUB_OFFLINE": "1",  # timm builds models, it downloads none
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of compilers beside the engine that is being timed
    }


def without_paths(text: str) -> str:
    """One line, its absolute paths cut to their last names: reports are published."""
    return re.sub(r"(?<![\w./])/(?:[\w.+@~=-]+/)+", "", " ".join(text.split()))
