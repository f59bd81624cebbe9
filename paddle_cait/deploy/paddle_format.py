"""Paddle's own inference model: ``inference.json`` (Paddle 3) or ``inference.pdmodel`` (2.6), and its parameters."""

from __future__ import annotations

import warnings
from pathlib import Path

import paddle

from paddle_cait.deploy.fuse import FusedModel
from paddle_cait.deploy.isolation import silence

INPUT = "x"


def write_paddle(model: FusedModel, folder: Path, stem: str = "inference") -> list[Path]:
    """Write the static graph of a fused model; returns its files, the graph first. ``model`` is used up."""
    dtype = "uint8" if model.uint8_input else "float32"
    shape = [None if side == -1 else side for side in model.input_shape]
    with silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Paddle's own deprecations, inside its tracer
        spec = paddle.static.InputSpec(shape, dtype, INPUT)
        static = paddle.jit.to_static(model, input_spec=[spec], full_graph=True)
        paddle.jit.save(static, str(folder / stem))
    (folder / f"{stem}.pdiparams.info").unlink(missing_ok=True)  # of Paddle 2.6, for fine-tuning; inference reads none
    graph = next(
        folder / f"{stem}{suffix}" for suffix in (".json", ".pdmodel") if (folder / f"{stem}{suffix}").exists()
    )
    return [graph, folder / f"{stem}.pdiparams"]
