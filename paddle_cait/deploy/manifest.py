"""``EXPORT.json``: what an exported folder holds, where it comes from, and how it was verified.

Everything that opens such a folder reads this file first; neither Paddle nor any other runtime is needed for it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.errors import PaddleCaitError
from paddle_cait.files import PathLike, write_atomic
from paddle_cait.presets import Preprocess

MANIFEST = "EXPORT.json"
SCHEMA = 1

FORMATS = ("paddle", "onnx", "openvino")
PRECISIONS = ("fp32", "fp16", "int8")  # of the weights in the files; what a runtime computes in is its own setting


@dataclass(frozen=True)
class Check:
    """One runtime's outputs against the dygraph model's, over ``images`` images in the largest of ``batches``, and
    over the first few of them in each of the others.

    ``engine``: the runtime; ``precision``: of the weights it opened. ``max_difference`` is over all outputs, relative
    to ``max(1, |value|)``; ``top1_equal`` counts images whose best class is the same. Where the images had labels,
    ``top1_correct`` and ``top1_correct_dygraph`` count those that the runtime and the model have right; else None.
    """

    engine: str
    precision: str
    images: int
    batches: tuple[int, ...]
    max_difference: float
    top1_equal: int
    top1_correct: int | None = None
    top1_correct_dygraph: int | None = None


@dataclass(frozen=True)
class Artifact:
    """The files of one ``format`` (one of ``paddle``, ``onnx``, ``openvino``), whose weights have one ``precision``
    (``fp32``, ``fp16``, ``int8``).

    ``files`` maps names in the folder to sha256; the first is the one a runtime opens. ``num_bytes``: of all of them.
    ``checks``: how they were verified; empty where the runtime was not installed.
    """

    format: str
    precision: str
    files: dict[str, str]
    num_bytes: int
    checks: tuple[Check, ...] = ()

    @property
    def name(self) -> str:
        """``onnx``, ``openvino:int8``: as ``--formats`` asks for it."""
        return self.format if self.precision == "fp32" else f"{self.format}:{self.precision}"

    @property
    def entry(self) -> str:
        """The file that a runtime opens."""
        return next(iter(self.files))


@dataclass(frozen=True)
class Manifest:
    """What ``EXPORT.json`` says.

    The input is named ``x``: float32 [B, 3, H, W], prepared as ``preprocess`` says; or, where ``input_dtype`` is
    uint8, [B, H, W, 3] pixels after resize and crop, whose mean and deviation are folded into the model. ``outputs``
    names them in order; the first is ``logits`` or ``probabilities`` (``features`` where the model has no classes).
    ``labels`` is the file of class names, one a line. ``weights``: the checkpoint's ``file``, ``sha256`` and ``notes``.

    ``model`` and ``family`` are the preset's full name and family; ``num_classes`` is 0 for features; ``img_size``:
    (height, width) in pixels. ``preprocess`` is None for inputs that are no square. ``artifacts``: what there is, an
    entry a format. ``versions``: of the packages that wrote it. ``settings``: all else that files or their checks
    depend on (``opset``, ``verified_with``, ``calibrated_with``, ``onednn``, and ``not_verified``: format -> why).
    """

    model: str
    family: str
    num_classes: int
    img_size: tuple[int, int]
    input_dtype: str
    outputs: tuple[str, ...]
    preprocess: Preprocess | None
    labels: str | None
    weights: dict[str, Any]
    artifacts: tuple[Artifact, ...]
    versions: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    def artifact(self, name: str) -> Artifact | None:
        """``onnx`` or ``openvino:int8`` -> its artifact, None if the folder has none."""
        return next((found for found in self.artifacts if found.name == name), None)

    def logits(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """The logits among a model's outputs, of a batch or of one image.

        Where there are ``probabilities`` alone, it is their logarithm: another constant an image, so the same classes,
        probabilities and loss.
        """
        if "logits" in self.outputs:
            return outputs[self.outputs.index("logits")]
        return np.log(np.maximum(outputs[self.outputs.index("probabilities")], np.finfo(np.float32).tiny))

    @property
    def classifies(self) -> bool:
        """Whether it has :meth:`logits`."""
        return bool(self.num_classes) and bool({"logits", "probabilities"} & set(self.outputs))

    def write(self, folder: PathLike) -> None:
        """Write ``folder/EXPORT.json`` in one step."""
        plain = {"schema": SCHEMA, **dataclasses.asdict(self)}
        write_atomic(Path(folder) / MANIFEST, json.dumps(plain, indent=2, ensure_ascii=False).encode() + b"\n")


def read_manifest(folder: PathLike) -> Manifest:
    """The manifest of an exported folder. Raises :class:`PaddleCaitError` if it is none, or lacks a listed file."""
    path = Path(folder) / MANIFEST
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PaddleCaitError(f"{folder}: holds no {MANIFEST}, expected what `paddle-cait export` wrote") from error
    except (OSError, ValueError) as error:
        raise PaddleCaitError(f"{path}: cannot be read ({error}); export again") from error
    manifest = _manifest(plain, path)
    for artifact in manifest.artifacts:
        for name in artifact.files:
            if "/" in name or "\\" in name or not (path.parent / name).is_file():
                raise PaddleCaitError(f"{path.parent / name}: no such file, though {MANIFEST} lists it; export again")
    return manifest


def _manifest(plain: Any, path: Path) -> Manifest:
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        found = plain.get("schema") if isinstance(plain, dict) else None
        raise PaddleCaitError(f"{path}: schema is {found!r}, this version reads {SCHEMA}; export again")
    values = {key: value for key, value in plain.items() if key != "schema"}
    try:
        if values["preprocess"] is not None:
            fields = values["preprocess"]
            values["preprocess"] = Preprocess(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
        values["artifacts"] = tuple(_artifact(entry) for entry in values["artifacts"])
        height, width = values["img_size"]
        values["img_size"], values["outputs"] = (height, width), tuple(values["outputs"])
        return Manifest(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PaddleCaitError(f"{path}: does not hold what an export writes ({error}); export again") from error


def _artifact(entry: dict[str, Any]) -> Artifact:
    checks = tuple(Check(**{**check, "batches": tuple(check["batches"])}) for check in entry["checks"])
    return Artifact(**{**entry, "checks": checks})
