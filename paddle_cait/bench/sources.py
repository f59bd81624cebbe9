"""The exported files that are timed. Each task writes into ``spec["target"]`` and says which files serve a format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddle_cait import runtime
from paddle_cait.bench.work import STATE
from paddle_cait.presets import get_preset

_VERIFY = 8  # images; every engine is checked again here, at the batch size that is timed


def export_format(spec: dict[str, Any]) -> dict[str, Any]:
    """One format of ``paddle-cait export``, as a user gets it."""
    model = _model(spec)
    from paddle_cait.deploy.exporter import export

    manifest = export(
        model,
        Path(spec["target"]) / "export",
        [spec["name"]],
        verify_images=_VERIFY,
        calib_dir=spec["calib_dir"],
        calib_images=spec["calib_images"],
    )
    artifact = manifest.artifacts[0]
    return {"files": {artifact.format: [f"export/{name}" for name in artifact.files]}}


def export_form(spec: dict[str, Any]) -> dict[str, Any]:
    """A CaiT whose heads are mixed in the form ``spec["form"]``, for Paddle Inference and as ONNX for the others."""
    model = _model(spec)
    from paddle_cait.deploy.fuse import fuse
    from paddle_cait.deploy.onnx_format import write_onnx
    from paddle_cait.deploy.paddle_format import write_paddle

    target = Path(spec["target"])
    files = write_paddle(fuse(model, form=spec["form"]), target)
    write_onnx(files, target / "inference.onnx", ("logits",))
    return {"files": {"paddle": [file.name for file in files], "onnx": ["inference.onnx"]}}


def _model(spec: dict[str, Any]) -> Any:
    runtime.prepare("cpu")
    from paddle_cait.factory import create_model

    return create_model(get_preset(spec["model"], spec["preset_file"]), Path(spec["folder"]) / STATE)
