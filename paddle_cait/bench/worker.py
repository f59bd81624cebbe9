"""The process of one engine: prepares itself, then does what it is told, a line of JSON each way.

It sleeps in a read between two requests. What libraries print goes to stderr; the answers have a pipe of their own.
When its parent goes away the pipe closes, and it ends.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from paddle_cait.bench.work import Work, measure
from paddle_cait.errors import PaddleCaitError

# What can be opened, and what is done once: name -> where. Only the module that is asked for is imported.
KINDS = {
    "dygraph": "engines:dygraph",
    "fused": "engines:fused",
    "static": "engines:static",
    "runtime": "engines:runtime",
    "torch eager": "peers:eager",
    "torch compile": "peers:compiled",
    "train paddle": "training:with_paddle",
    "train torch": "training:with_torch",
    "pipeline paddle_cait": "pipeline:ours",
    "pipeline torchvision": "pipeline:torchvision",
    "matmul numpy": "ceiling:with_numpy",
    "matmul torch": "ceiling:with_torch",
    "matmul openvino": "ceiling:with_openvino",
}
TASKS = {
    "reference": "reference:make_reference",
    "export": "sources:export_format",
    "forms": "sources:export_form",
    "timm onnx": "peers:export_onnx",
    "timm openvino": "peers:export_openvino",
}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the conductor's
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        spec = json.loads(sys.stdin.readline())
        if spec["kind"] in TASKS:
            _answer(answers, _find(TASKS[spec["kind"]])(spec))
            return
        work: Work = _find(KINDS[spec["kind"]])(spec)
    except Exception as error:  # a library's own errors too: they are the reason in this engine's row
        _answer(answers, {"failed": _reason(error)})
        return
    _answer(answers, {"settings": work.settings, "images": work.images})
    asleep = time.process_time()  # CPU seconds of all threads
    for line in sys.stdin:
        idle = time.process_time() - asleep
        try:
            reply = _do(work, json.loads(line))
        except Exception as error:
            _answer(answers, {"failed": _reason(error)})
            return
        asleep = time.process_time()  # CPU seconds of all threads
        _answer(answers, {**reply, "idle": idle, "cpu": asleep, "peak_mb": peak_mb()})


def _do(work: Work, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "check":
        np.save(request["file"], work.check())
        return {}
    return {"seconds": measure(work.step, request["seconds"])}


def peak_mb() -> float:
    """This process's largest memory, in MB. ``ru_maxrss`` starts at the parent's, so Linux is asked otherwise."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def _find(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(f"paddle_cait.bench.{module}"), name)


def _answer(answers: TextIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def _reason(error: Exception) -> str:
    if isinstance(error, PaddleCaitError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
