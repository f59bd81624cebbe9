"""Official checkpoint in, checkpoint of ours out, or back: no PyTorch, one tensor in memory at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddle_cait.factory import create_model
from paddle_cait.files import PathLike
from paddle_cait.presets import Preset
from paddle_cait.versions import versions
from paddle_cait.weights.apply import complete
from paddle_cait.weights.plan import LoadReport, ModelSpec, make_plan
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.store import check_output, store


def convert(
    source: PathLike,
    output: PathLike,
    model: str | Preset,
    *,
    layout: str = "paddle",
    dtype: str = "keep",
    entry: str | None = None,
    num_classes: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    preset_file: PathLike | None = None,
) -> LoadReport:
    """Convert a checkpoint of any supported format and layout.

    Args:
        source: a file of any format of :func:`paddle_cait.weights.readers.open_checkpoint`, recognised by content.
        output: ends in ``.pdparams`` or ``.safetensors``; appears whole or not at all, with ``output + '.json'``
            beside it (source sha256, layout, what was left out, versions).
        model: the preset the file is for; a file that does not fit is refused.
        layout: ``paddle`` (our layout, Linear weights [in, out]) or ``official`` (PyTorch's orientation): the round
            trip is bit-exact.
        dtype: ``keep`` the file's own, or ``float32``.
        entry: which set of weights of a training checkpoint, such as ``model_ema``.
        num_classes, img_size: of a fine-tuned file that differs from the preset's.
        preset_file: YAML file of your own presets, where ``model`` is defined.

    Returns the report of every tensor. Raises :class:`WeightsError` for a file that is unreadable, unsafe or does not
    fit, and for an output, layout or dtype other than these; :class:`PresetError` for an unknown ``model``.
    """
    import paddle

    check_output(output, layout, dtype)
    with open_checkpoint(source) as checkpoint:
        with paddle.LazyGuard():  # names and shapes only, no memory
            spec = ModelSpec.of(
                create_model(model, num_classes=num_classes, img_size=img_size, preset_file=preset_file)
            )
        spec = spec.exact()
        plan = make_plan(spec, checkpoint, entry)
        report = plan.report
        complete(report, spec, source)
        store(plan, spec, output, layout, dtype, _provenance(Path(source), report))
    return report


def _provenance(source: Path, report: LoadReport) -> dict[str, Any]:
    return {
        "model": report.model,
        "source": {
            "file": source.name,
            "bytes": source.stat().st_size,
            "sha256": report.sha256,
            "format": report.format,
            "layout": report.layout,
            "orientation": report.orientation,
            "entry": report.entry,
        },
        "tensors": len(report.loaded),
        "left_out": report.left_out,
        "versions": versions(),
    }
