"""Matching a file's tensors with a model's, strictly: each one gets a place or a reason, or nothing is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from paddle_cait.errors import WeightsError
from paddle_cait.presets import Preset
from paddle_cait.weights.canonical import Canonical, canonical
from paddle_cait.weights.identify import advice
from paddle_cait.weights.layouts import choose_layout
from paddle_cait.weights.states import select_state
from paddle_cait.weights.tensors import Checkpoint, TensorRef
from paddle_cait.weights.wording import compact, grouped

if TYPE_CHECKING:
    from paddle import nn

FLOATS = ("float32", "float16", "bfloat16", "float64")
Grid = tuple[int, int]


class PositionTable(Protocol):
    """What a model says of a table that depends on its image size (:mod:`paddle_cait.layers.pos_embed`)."""

    rule: str
    grid: Grid

    def source(self, shape: tuple[int, ...], /) -> Grid | None: ...

    def resample(self, table: np.ndarray, source: Grid, /) -> np.ndarray: ...


@dataclass(frozen=True)
class ModelSpec:
    """What a model expects, read off a built layer: nothing here depends on its class."""

    label: str
    shapes: dict[str, tuple[int, ...]]
    linear: frozenset[str]  # weights of Linear layers: [in, out] here, [out, in] in PyTorch
    classifier: tuple[str, ...]  # names of the layers that another number of classes replaces
    head_replaced: bool
    own_size: bool  # the image size is the preset's
    backbone: bool  # the preset has no classifier: a file's is left out
    tables: dict[str, PositionTable]
    preset: Preset | None = None

    @classmethod
    def of(cls, model: nn.Layer) -> ModelSpec:
        from paddle import nn

        preset: Preset | None = getattr(model, "preset", None)
        layers = model.named_sublayers(include_self=True)
        return cls(
            label=preset.full_name if preset else type(model).__name__,
            shapes={name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
            linear=frozenset(f"{name}.weight".lstrip(".") for name, layer in layers if isinstance(layer, nn.Linear)),
            classifier=getattr(model, "classifier", ()),
            head_replaced=preset is not None and getattr(model, "num_classes", None) != preset.num_classes,
            own_size=preset is not None and _pair(preset.arch["img_size"]) == getattr(model, "img_size", None),
            backbone=getattr(model, "num_classes", None) == 0,
            tables=model.position_tables() if hasattr(model, "position_tables") else {},
            preset=preset,
        )

    def exact(self) -> ModelSpec:
        """The same, but nothing may be resampled and no classifier replaced: a conversion keeps what is in the file."""
        return replace(self, head_replaced=False, tables={})


@dataclass(frozen=True)
class Step:
    """One tensor's way from the file into the model."""

    ref: TensorRef
    transpose: bool
    source_grid: Grid | None = None  # set where a position table has to be resampled


@dataclass
class LoadReport:
    """What became of every tensor of a checkpoint.

    Attributes:
        path, sha256: the file and its hash (64 hex digits).
        model: the preset's full name, or the class's.
        format: as :class:`Checkpoint` names it.
        layout: whose names the file has; one of the key layouts.
        orientation: in words, how the file's Linear matrices lie.
        entry: which set of weights of a training checkpoint; empty where the file holds the tensors directly.
        loaded: names of the model's tensors that got the file's values.
        resized: of these, name -> how its position table was resampled.
        left_out: in the file and not in the model: name -> why.
        kept: in the model and not in the file (a new classifier): name -> why.
        notes: why these may not be the weights whose numbers were published.
    """

    path: str
    model: str
    format: str
    layout: str
    orientation: str
    entry: str
    loaded: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sha256: str = ""

    def summary(self) -> str:
        """A line, and one more for each group of tensors that was not simply loaded."""
        entry = f", entry {self.entry!r}" if self.entry else ""
        lines = [
            f"{self.path} ({self.format}, {self.layout} names, {self.orientation}{entry}) -> {self.model}: "
            f"{len(self.loaded)} tensors loaded"
        ]
        for title, group in (
            ("resized", self.resized),
            ("left out", self.left_out),
            ("kept as initialised", self.kept),
        ):
            for reason in dict.fromkeys(group.values()):
                lines.append(f"  {title}: {compact([n for n, r in group.items() if r == reason])}: {reason}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


@dataclass(frozen=True)
class Plan:
    steps: dict[str, Step]  # by model name, in the model's order
    transposed: bool  # the file's Linear matrices are PyTorch's [out, in]
    report: LoadReport


def make_plan(spec: ModelSpec, checkpoint: Checkpoint, entry: str | None = None) -> Plan:
    """Give every tensor of ``checkpoint`` a place. Raises :class:`WeightsError` with all that is unexplained."""
    state = select_state(checkpoint, entry)
    layout = choose_layout(state.tensors, spec.shapes.__contains__)
    named = canonical(state, layout, spec.linear, {n: spec.shapes[n] for n in spec.linear}, checkpoint)
    refs, transposed = dict(named.refs), named.transposed
    report = LoadReport(
        str(checkpoint.path),
        spec.label,
        checkpoint.format,
        layout.name,
        "PyTorch [out, in] matrices" if transposed else "Paddle [in, out] matrices",
        state.entry,
        left_out=dict(state.left_out),
        notes=list(state.notes),
    )
    steps: dict[str, Step] = {}
    problems = _Problems()
    for name, shape in spec.shapes.items():
        if name not in refs:
            if spec.head_replaced and _is_classifier(spec, name):
                report.kept[name] = "not in the file, and the classifier has another number of classes"
            else:
                problems.missing.append(name)
            continue
        _match(spec, name, shape, refs.pop(name), named, steps, report, problems)
    for name, ref in refs.items():
        reason = layout.reason_to_leave_out(name)
        if reason is not None:
            report.left_out[name] = reason
        elif (spec.head_replaced or spec.backbone) and _is_classifier(spec, name):
            classes = ref.shape[0 if transposed else -1] if ref.shape else "no"
            report.left_out[name] = f"classifier of {classes} classes, the model has " + (
                "none" if spec.backbone else "another"
            )
        else:
            problems.unknown.append(name)
    problems.raise_if_any(spec, checkpoint, named)
    if report.resized and spec.preset and spec.own_size:
        fitting = advice(named.shapes, spec.preset)
        report.notes.append(f"the file is of another image size than {spec.label}, whose numbers are not its.{fitting}")
    report.loaded = list(steps)
    return Plan(steps, transposed, report)


def _match(
    spec: ModelSpec,
    name: str,
    shape: tuple[int, ...],
    ref: TensorRef,
    named: Canonical,
    steps: dict[str, Step],
    report: LoadReport,
    problems: _Problems,
) -> None:
    transpose = named.transposed and name in spec.linear
    found = tuple(reversed(ref.shape)) if transpose else ref.shape
    if ref.dtype not in FLOATS:
        problems.other.append(f"{name} is {ref.dtype}, expected a floating-point tensor")
    elif name in spec.tables and (grid := _source_grid(spec.tables[name], shape, found, named.foreign)) is not None:
        steps[name] = Step(ref, transpose, grid)
        to = spec.tables[name].grid
        report.resized[name] = (
            f"{grid[0]}x{grid[1]} positions resampled to {to[0]}x{to[1]} by the rule {spec.tables[name].rule!r}"
        )
    elif found == shape:
        steps[name] = Step(ref, transpose)
    elif spec.head_replaced and _is_classifier(spec, name):
        report.left_out[name] = f"classifier of {found[-1] if found else 'no'} classes, the model has {shape[-1]}"
        report.kept[name] = "the file's classifier has another number of classes"
    else:
        problems.shapes.append(f"{name} is {list(found)}, expected {list(shape)}")


def _source_grid(table: PositionTable, shape: tuple[int, ...], found: tuple[int, ...], foreign: bool) -> Grid | None:
    """The grid of a file's position table if it is not the model's.

    A table that already has the model's shape is another grid's only when the model is not square while the file is not
    ours: 14x14 and 7x28 patches are both 196.
    """
    if len(found) != len(shape) or found[-1] != shape[-1]:
        return None
    if found == shape and (not foreign or table.grid[0] == table.grid[1]):
        return None
    return table.source(found)


def _pair(size: int | Grid) -> Grid:
    return (size, size) if isinstance(size, int) else size


def _is_classifier(spec: ModelSpec, name: str) -> bool:
    return name.rpartition(".")[0] in spec.classifier


@dataclass
class _Problems:
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def raise_if_any(self, spec: ModelSpec, checkpoint: Checkpoint, named: Canonical) -> None:
        parts = []
        if self.shapes or self.other:
            parts.append("; ".join(grouped(self.shapes + self.other)))
        if self.missing:
            parts.append(
                f"{len(self.missing)} of the model's {len(spec.shapes)} tensors are missing: {compact(self.missing)}"
            )
        if self.unknown:
            parts.append(f"{len(self.unknown)} tensors have no place in the model: {compact(self.unknown)}")
        if not parts:
            return
        hint = advice(named.shapes, spec.preset)
        raise WeightsError(f"{checkpoint.path}: does not fit {spec.label}.{hint} {'; '.join(parts)}")
