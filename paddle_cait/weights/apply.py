"""Putting a file's tensors into a model: all of them, or an error that says why not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from paddle_cait.files import PathLike, sha256_file
from paddle_cait.weights.origin import origin_note
from paddle_cait.weights.plan import LoadReport, ModelSpec, Step, make_plan
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.tensors import as_float32

if TYPE_CHECKING:
    from paddle import nn

log = logging.getLogger("paddle_cait")


def load_weights(model: nn.Layer, path: PathLike, *, entry: str | None = None) -> LoadReport:
    """Load a checkpoint of any supported format and layout, recognised by content.

    Every tensor of the model gets its value, and every tensor of the file has a place or a reason to be left out;
    nothing is loaded otherwise. float16, bfloat16 and float64 become float32. A model with another ``num_classes``
    keeps its own classifier; at another ``img_size`` position tables are resampled.

    Args:
        model: a model of :func:`paddle_cait.create_model`.
        path: a file; see :func:`paddle_cait.weights.readers.open_checkpoint` for the formats.
        entry: which set of weights of a training checkpoint, such as ``model_ema``; default the model's own.

    Returns the report, which also stays at ``model.load_report``. Raises :class:`WeightsError` (unreadable, unsafe or
    unfit file), naming the tensors.
    """
    spec = ModelSpec.of(model)
    with open_checkpoint(path) as checkpoint:
        plan = make_plan(spec, checkpoint, entry)
        targets = model.state_dict()
        for name, step in plan.steps.items():
            targets[name].set_value(_value(spec, name, step))
    complete(plan.report, spec, path)
    model.load_report = plan.report
    return plan.report


def complete(report: LoadReport, spec: ModelSpec, path: PathLike) -> None:
    """What a report says of the file itself: its hash, and whether it is known as another preset's. Logs the notes."""
    report.sha256 = sha256_file(path)
    note = origin_note(path, report.sha256, spec.preset)
    report.notes.extend([note] if note else [])
    for line in report.notes:
        log.warning("%s: %s", path, line)


def _value(spec: ModelSpec, name: str, step: Step) -> np.ndarray:
    value = as_float32(step.ref.read(), step.ref.dtype)
    if step.transpose:
        value = value.T
    if step.source_grid is not None:
        value = spec.tables[name].resample(value, step.source_grid)
    return np.ascontiguousarray(value)
