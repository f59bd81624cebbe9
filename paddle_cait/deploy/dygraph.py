"""A checkpoint in Paddle's dynamic graph, as a session: what a predictor runs where nothing was exported."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait import runtime
from paddle_cait.deploy.manifest import Artifact, Manifest
from paddle_cait.deploy.sessions import Session
from paddle_cait.errors import ConfigError
from paddle_cait.files import PathLike
from paddle_cait.presets import get_preset
from paddle_cait.versions import versions


def open_checkpoint(
    path: PathLike,
    model: str,
    device: str = "auto",
    threads: int | None = None,
    preset_file: PathLike | None = None,
    num_classes: int | None = None,
    img_size: int | tuple[int, int] | None = None,
) -> Session:
    """The preset ``model`` with the weights of any supported checkpoint file."""
    preset = get_preset(model, preset_file)
    paddle, used = _paddle(device, threads)
    from paddle_cait.factory import create_model

    layer: Any = create_model(preset, path, num_classes=num_classes, img_size=img_size)
    layer.eval()
    report = layer.load_report
    manifest = Manifest(
        model=preset.full_name,
        family=preset.family,
        num_classes=layer.num_classes,
        img_size=layer.img_size,
        input_dtype="float32",
        outputs=("logits",),
        preprocess=preset.preprocess,
        labels=None,
        weights={"file": report.path, "sha256": report.sha256, "notes": list(report.notes)},
        artifacts=(),
        versions=versions(),
    )

    def run(images: np.ndarray) -> list[np.ndarray]:
        with paddle.no_grad():
            return [layer(paddle.to_tensor(images)).astype("float32").numpy()]

    file = Path(path)
    files = Artifact("checkpoint", "fp32", {file.name: report.sha256}, file.stat().st_size)
    settings = {"engine": "dygraph", "version": f"of Paddle {paddle.__version__}", "artifact": file.name}
    return Session(manifest, files, run, {**settings, "precision": "fp32", **used})


def _paddle(device: str, threads: int | None) -> tuple[Any, dict[str, Any]]:
    """Paddle and the device and threads in use. With the settings of the commands, unless the program has its own."""
    if "paddle" not in sys.modules:
        if threads:
            os.environ["OMP_NUM_THREADS"] = str(threads)
        runtime.prepare(device)
    import paddle

    if device != "auto" and not paddle.get_device().startswith(device):
        try:
            paddle.set_device(device)
        except Exception as error:  # Paddle raises several kinds
            raise ConfigError(
                f"device is {device!r}, which this Paddle does not have: see `paddle-cait doctor`"
            ) from error
    if threads:
        paddle.base.core.set_num_threads(threads)
    return paddle, {"device": paddle.get_device(), "threads": threads or int(os.environ.get("OMP_NUM_THREADS", "1"))}
