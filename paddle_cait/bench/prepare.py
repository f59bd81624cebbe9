"""Files made before anything is timed: the weights and images that all read, and every engine's model.

Each is made once, in a process of its own. With a folder to keep them, a later run takes what was made from the same
weights by the same code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddle_cait.bench.channel import AbsentError, Channel, WorkerError
from paddle_cait.deploy.formats import KNOWN
from paddle_cait.errors import ConfigError
from paddle_cait.files import write_atomic

log = logging.getLogger("paddle_cait")

_STAMP = "SOURCE.json"
_PACKAGE = Path(__file__).resolve().parent.parent
_CODE = ("deploy", "models", "layers", "bench")  # what changes the files


@dataclass(frozen=True)
class Source:
    """``files``: format -> names in ``folder``, the one that a runtime opens first."""

    folder: Path
    files: dict[str, list[str]]


@dataclass
class Sources:
    """``spec``: what workers are told. ``state``: digest of the weights. Files go to ``kept``, or to ``scratch``."""

    spec: dict[str, Any]
    scratch: Path
    state: str
    kept: Path | None = None
    _made: dict[str, Source | WorkerError] = field(default_factory=dict)

    def get(self, name: str) -> Source:
        """Make it, or take it. Raises :class:`WorkerError` with the reason why there is none."""
        if name not in self._made:
            try:
                self._made[name] = self._take(name) or self._make(name)
            except WorkerError as error:
                self._made[name] = error
        found = self._made[name]
        if isinstance(found, WorkerError):
            raise found
        return found

    def _take(self, name: str) -> Source | None:
        place = self._place(name)
        if not place.exists():
            return None
        try:
            stamp = json.loads((place / _STAMP).read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{place}: exists and is not a benchmark's; give another --export-dir") from error
        if stamp.get("key") != self._key(name):
            shutil.rmtree(place)
            return None
        return Source(place, stamp["files"])

    def _make(self, name: str) -> Source:
        kind, needs, request = _task(name, self.spec)
        for module in needs:
            if importlib.util.find_spec(module) is None:
                raise AbsentError(f"{module} is not installed")
        log.info("exporting %s", name)
        place = self._place(name)
        place.mkdir(parents=True)
        spec = {**self.spec, **request, "kind": kind, "target": str(place)}
        try:
            with Channel(spec, self.spec["threads"], self.scratch) as worker:
                files = worker.ready["files"]
            write_atomic(place / _STAMP, json.dumps({"key": self._key(name), "files": files}).encode())
        except BaseException:
            shutil.rmtree(place)
            raise
        return Source(place, files)

    def _place(self, name: str) -> Path:
        return (self.kept or self.scratch) / name.replace(":", "-").replace(" ", "-")

    def _key(self, name: str) -> str:
        told = [name, self.state, self.spec["model"], self.spec["calib_dir"], self.spec["calib_images"], _code_digest()]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _task(name: str, spec: dict[str, Any]) -> tuple[str, Iterable[str], dict[str, Any]]:
    """(kind, modules that it needs, what else the worker is told) of a source."""
    if name in ("timm onnx", "timm openvino"):
        return name, (), {}
    if name.startswith("form "):
        return "forms", KNOWN["onnx"].needs, {"form": name.removeprefix("form ")}
    if KNOWN[name].precision == "int8" and not spec["calib_dir"]:
        raise AbsentError("int8 needs --calib-dir, a folder of photographs")
    return "export", KNOWN[name].needs, {"name": name}


def _code_digest() -> str:
    digest = hashlib.sha256()
    for room in _CODE:
        for path in sorted((_PACKAGE / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
