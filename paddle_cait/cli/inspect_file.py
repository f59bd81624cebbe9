"""``convert --inspect``: what a checkpoint holds, which presets it fits, and why not the others."""

from __future__ import annotations

from typing import Any

from paddle_cait import runtime
from paddle_cait.errors import WeightsError
from paddle_cait.files import PathLike, sha256_file
from paddle_cait.presets import Preset, list_presets
from paddle_cait.weights.identify import fits, in_canonical_names
from paddle_cait.weights.layouts import LAYOUTS
from paddle_cait.weights.origin import known_as
from paddle_cait.weights.plan import ModelSpec, make_plan
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.tensors import Checkpoint
from paddle_cait.weights.wording import compact

NEAR = 4  # presets that do not fit and are still worth a line


def inspect(path: PathLike, entry: str | None = None, preset_file: PathLike | None = None) -> dict[str, Any]:
    """All about a file, for JSON: format, layout, orientation, presets that fit, and the others with their reasons."""
    presets = list_presets(preset_file)
    with open_checkpoint(path) as checkpoint:
        state, layout, named = in_canonical_names(checkpoint, entry)
        ordered = fits(named.shapes, presets)
        differs = _incomplete([fit.preset for fit in ordered if not fit.differs], checkpoint, entry)
        differs.update({fit.preset.full_name: str(fit) for fit in ordered if fit.differs})
        sha256 = sha256_file(path)
        return {
            "file": str(path),
            "format": checkpoint.format,
            "sha256": sha256,
            "layout": layout.name,
            "orientation": "PyTorch [out, in]" if named.transposed else "Paddle [in, out]",
            "entry": state.entry,
            "tensors": len(state.tensors),
            "dtypes": sorted({ref.dtype for ref in state.tensors.values()}),
            "left_out": {**state.left_out, **_left_out(layout, named.refs)},
            "notes": [*state.notes, *_notes(checkpoint)],
            "fits": [fit.preset.full_name for fit in ordered if fit.preset.full_name not in differs],
            "fits_if_built_with": {f.preset.full_name: f.options for f in ordered if f.differs and f.adjustable},
            "differs": differs,
            "known_as": known_as(path, sha256),
        }


def _incomplete(presets: list[Preset], checkpoint: Checkpoint, entry: str | None) -> dict[str, str]:
    """Those of ``presets`` that the file does not fit tensor by tensor, and why. A model's tags are alike."""
    if not presets:
        return {}
    runtime.prepare("cpu")
    import paddle

    from paddle_cait.factory import create_model

    reasons: dict[str, str | None] = {}
    for preset in presets:
        if preset.name not in reasons:
            with paddle.LazyGuard():  # names and shapes only, no memory
                spec = ModelSpec.of(create_model(preset)).exact()
            try:
                make_plan(spec, checkpoint, entry)
                reasons[preset.name] = None
            except WeightsError as error:
                reasons[preset.name] = str(error).partition(f"does not fit {preset.full_name}.")[2].strip() or str(
                    error
                )
    return {preset.full_name: reason for preset in presets if (reason := reasons[preset.name])}


def text(found: dict[str, Any], presets: list[Preset]) -> str:
    """The same for a screen; the last lines are the presets."""
    entry = f", entry {found['entry']!r}" if found["entry"] else ""
    lines = [
        f"{found['file']}  sha256 {found['sha256'][:16]}",
        f"  format      {found['format']}, {found['tensors']} tensors of {', '.join(found['dtypes'])}{entry}",
        f"  layout      {found['layout']} names, {found['orientation']} matrices",
    ]
    for reason in dict.fromkeys(found["left_out"].values()):
        names = [name for name, why in found["left_out"].items() if why == reason]
        lines.append(f"  left out    {compact(names)}: {reason}")
    lines += [f"  note        {note}" for note in found["notes"]]
    lines += [f"  known as    {line}" for line in found["known_as"]]
    return "\n".join([*lines, *_preset_lines(found, {preset.full_name: preset.family for preset in presets})])


def _preset_lines(found: dict[str, Any], families: dict[str, str]) -> list[str]:
    lines = [f"  fits        {name} ({families[name]})" for name in found["fits"]]
    adjusted = {} if found["fits"] else found["fits_if_built_with"]
    for name in list(adjusted)[:NEAR]:
        lines.append(f"  fits        {name} ({families[name]}) built with {adjusted[name]}")
    others = [name for name in found["differs"] if name not in adjusted]
    lines += [f"  not         {name}: {found['differs'][name]}" for name in others[:NEAR]]
    if len(others) > NEAR:
        lines.append(f"  not         ... and {len(others) - NEAR} others; --json has each with its reason")
    if not found["fits"] and not adjusted:
        lines.append(f"fits no preset under any of the layouts {', '.join(layout.name for layout in LAYOUTS)}")
    return lines


def _left_out(layout: Any, refs: Any) -> dict[str, str]:
    reasons = {name: layout.reason_to_leave_out(name) for name in refs}
    return {name: reason for name, reason in reasons.items() if reason}


def _notes(checkpoint: Checkpoint) -> list[str]:
    return [
        f"{key}: {value}" for key, value in checkpoint.metadata.items() if key in ("producer", "left_out") and value
    ]
