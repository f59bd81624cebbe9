"""Exported folders made by hand, so that what opens them is tested apart from what writes them."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import paddle
from paddle.static import InputSpec

import paddle_cait as pc
from paddle_cait.deploy.manifest import Artifact, Manifest
from paddle_cait.presets import Preset

STEM = "inference"


def save_paddle(model: Any, folder: Path, shape: list[int], dtype: str = "float32") -> Artifact:
    """``paddle.jit.save`` with a batch of any size; ``.json`` on Paddle 3, ``.pdmodel`` on 2.6."""
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Paddle's own deprecations while it traces
        static = paddle.jit.to_static(model, input_spec=[InputSpec([None, *shape], dtype, "x")], full_graph=True)
        paddle.jit.save(static, str(folder / STEM))
    program = next(name for name in (f"{STEM}.json", f"{STEM}.pdmodel") if (folder / name).exists())
    return artifact(folder, "paddle", [program, f"{STEM}.pdiparams"])


def artifact(folder: Path, form: str, names: list[str], precision: str = "fp32") -> Artifact:
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    return Artifact(form, precision, files, sum((folder / name).stat().st_size for name in names))


def manifest(preset: Preset, artifacts: list[Artifact], **changes: Any) -> Manifest:
    """What an export of ``preset`` would say."""
    size = preset.preprocess.img_size
    values: dict[str, Any] = {
        "model": preset.full_name,
        "family": preset.family,
        "num_classes": preset.num_classes,
        "img_size": (size, size),
        "input_dtype": "float32",
        "outputs": ("logits",),
        "preprocess": preset.preprocess,
        "labels": None,
        "weights": {"file": "drawn.npz", "sha256": "ab" * 32, "notes": []},
        "artifacts": tuple(artifacts),
        "versions": {"paddle_cait": pc.__version__},
    }
    return Manifest(**{**values, **changes})


def export_by_hand(folder: Path, preset: Preset, checkpoint: Path | None = None, **changes: Any) -> Manifest:
    """The preset's model, not folded, as Paddle saves it."""
    model = pc.create_model(preset, checkpoint)
    size = preset.preprocess.img_size
    report = getattr(model, "load_report", None)
    if report:
        changes = {"weights": {"file": report.path, "sha256": report.sha256, "notes": []}, **changes}
    made = manifest(preset, [save_paddle(model, folder, [3, size, size])], **changes)
    made.write(folder)
    return made
