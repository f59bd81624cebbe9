"""Our engines: the model in Paddle, and the folders that ``export`` wrote in whichever runtime serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait import runtime as settings_of_paddle
from paddle_cait.bench.work import STATE, Work, inference
from paddle_cait.presets import get_preset


def dygraph(spec: dict[str, Any]) -> Work:
    """The model as it is."""
    return _in_paddle(spec, _model(spec))


def fused(spec: dict[str, Any]) -> Work:
    """The model folded for inference, still in dygraph."""
    model = _model(spec)
    from paddle_cait.deploy.fuse import fuse

    return _in_paddle(spec, fuse(model))


def static(spec: dict[str, Any]) -> Work:
    """The model as it is, traced into one graph."""
    model = _model(spec)
    import paddle

    return _in_paddle(spec, paddle.jit.to_static(model, full_graph=True))


def runtime(spec: dict[str, Any]) -> Work:
    """Exported files in the runtime ``spec["engine"]``; timm's files too, so that both get the same settings."""
    from paddle_cait.deploy.manifest import Artifact
    from paddle_cait.deploy.runtimes import Options, open_runtime

    # int8 is a matter of the files, and what they are stored in does not matter here
    weights = "int8" if spec["precision"] == "int8" else "fp32"
    artifact = Artifact(spec["format"], weights, dict.fromkeys(spec["files"], ""), 0)
    options = Options("cpu", spec["threads"], spec["precision"], spec.get("one_dnn"))
    run, settings = open_runtime(spec["engine"], Path(spec["source"]), artifact, options)
    return inference(lambda images: run(images)[0], spec, settings)


def _model(spec: dict[str, Any]) -> Any:
    settings_of_paddle.prepare("cpu")  # before anything imports paddle: half of its settings come too late then
    from paddle_cait.factory import create_model

    preset = get_preset(spec["model"], spec["preset_file"])
    model = create_model(preset, Path(spec["folder"]) / STATE)
    model.eval()
    return model


def _in_paddle(spec: dict[str, Any], model: Any) -> Work:
    import paddle

    paddle.base.core.set_num_threads(spec["threads"])

    def run(images: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            logits: np.ndarray = model(paddle.to_tensor(images)).numpy()
        return logits

    return inference(run, spec, {"version": paddle.__version__})
