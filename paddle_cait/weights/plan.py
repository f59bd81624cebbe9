"""Matching a file's tensors with a model's, strictly: each one gets a place or a reason, or nothing is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Callable

import numpy as np

from paddle_cait.errors import WeightsError
from paddle_cait.presets import Preset
from paddle_cait.weights.identify import likely_presets
from paddle_cait.weights.layouts import State, choose_layout, select_state
from paddle_cait.weights.tensors import Checkpoint, TensorRef
from paddle_cait.weights.wording import compact, grouped

if TYPE_CHECKING:
    from paddle import nn

FLOATS = ("float32", "float16", "bfloat16", "float64")
Grid = tuple[int, int]


@dataclass(frozen=True)
class ModelSpec:
    """What a model expects, read off a built layer: nothing here depends on its class."""

    label: str
    shapes: dict[str, tuple[int, ...]]
    linear: frozenset[str]  # weights of Linear layers: [in, out] here, [out, in] in PyTorch
    classifier: tuple[str, ...]  # names of the layers that another number of classes replaces
    head_replaced: bool
    grid: Grid | None
    resample: dict[str, Callable[[np.ndarray, Grid], np.ndarray]]

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
            grid=getattr(model, "grid", None),
            resample=model.resample_rules() if hasattr(model, "resample_rules") else {},
        )

    def exact(self) -> ModelSpec:
        """The same, but nothing may be resampled and no classifier replaced: a conversion keeps what is in the file."""
        return replace(self, head_replaced=False, resample={})


@dataclass(frozen=True)
class Step:
    """One tensor's way from the file into the model."""

    ref: TensorRef
    transpose: bool
    source_grid: Grid | None = None  # set where a position table has to be resampled


@dataclass
class LoadReport:
    """What became of every tensor. ``loaded`` are model names; the other two map a name to its reason.

    ``resized`` are loaded too, at another size; ``left_out`` are in the file and not in the model;
    ``kept`` are in the model and not in the file (a new classifier).
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
        return "\n".join(lines)


@dataclass(frozen=True)
class Plan:
    steps: dict[str, Step]  # by model name, in the model's order
    transposed: bool  # the file's Linear matrices are PyTorch's [out, in]
    report: LoadReport


def make_plan(spec: ModelSpec, checkpoint: Checkpoint, entry: str | None = None) -> Plan:
    """Give every tensor of ``checkpoint`` a place. Raises :class:`WeightsError` with all that is unexplained."""
    state = select_state(checkpoint, entry)
    layout = choose_layout(state.tensors, spec.shapes)
    left_out = dict(state.left_out)
    refs: dict[str, TensorRef] = {}
    for key, ref in state.tensors.items():
        reason = layout.reason_to_leave_out(key)
        if reason is not None:
            left_out[key] = reason
        elif layout.rename(key) in refs:
            raise WeightsError(
                f"{checkpoint.path}: two tensors are named {layout.rename(key)!r} under {layout.name} names"
            )
        else:
            refs[layout.rename(key)] = ref
    transposed = _pytorch_orientation(spec, refs, checkpoint)
    orientation = "PyTorch [out, in] matrices" if transposed else "Paddle [in, out] matrices"
    report = LoadReport(
        str(checkpoint.path), spec.label, checkpoint.format, layout.name, orientation, state.entry, left_out=left_out
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
        _match(spec, name, shape, refs.pop(name), transposed, steps, report, problems, checkpoint)
    for name, ref in refs.items():
        if spec.head_replaced and _is_classifier(spec, name):
            report.left_out[name] = f"classifier of {ref.shape[0 if transposed else -1]} classes, the model has another"
        else:
            problems.unknown.append(name)
    problems.raise_if_any(spec, checkpoint, state, layout.rename)
    report.loaded = list(steps)
    return Plan(steps, transposed, report)


def _match(
    spec: ModelSpec,
    name: str,
    shape: tuple[int, ...],
    ref: TensorRef,
    transposed: bool,
    steps: dict[str, Step],
    report: LoadReport,
    problems: _Problems,
    checkpoint: Checkpoint,
) -> None:
    transpose = transposed and name in spec.linear
    found = tuple(reversed(ref.shape)) if transpose else ref.shape
    if ref.dtype not in FLOATS:
        problems.other.append(f"{name} is {ref.dtype}, expected a floating-point tensor")
    elif name in spec.resample and (grid := _source_grid(spec, shape, found, transposed)) is not None:
        steps[name] = Step(ref, transpose, grid)
        report.resized[name] = f"{grid[0]}x{grid[1]} positions resampled to {spec.grid[0]}x{spec.grid[1]}"  # type: ignore[index]
    elif found == shape:
        steps[name] = Step(ref, transpose)
    elif spec.head_replaced and _is_classifier(spec, name):
        report.left_out[name] = f"classifier of {found[-1]} classes, the model has {shape[-1]}"
        report.kept[name] = "the file's classifier has another number of classes"
    else:
        problems.shapes.append(f"{name} is {list(found)}, expected {list(shape)}")


def _source_grid(spec: ModelSpec, shape: tuple[int, ...], found: tuple[int, ...], transposed: bool) -> Grid | None:
    """The grid of a file's position table if it is not the model's. The authors' tables are square.

    A table that already has the model's shape is another grid's only when the model is not square while the file comes
    from PyTorch: 14x14 and 7x28 patches are both 196.
    """
    if len(found) != len(shape) or found[-1] != shape[-1] or spec.grid is None:
        return None
    if found == shape and (not transposed or spec.grid[0] == spec.grid[1]):
        return None
    side = math.isqrt(found[1])
    return (side, side) if side * side == found[1] else None


def _pytorch_orientation(spec: ModelSpec, refs: dict[str, TensorRef], checkpoint: Checkpoint) -> bool:
    """Are Linear weights [out, in]? The matrices that are not square decide together: a square one cannot tell."""
    votes: dict[bool, list[str]] = {True: [], False: []}
    for name in spec.linear & refs.keys():
        expected, found = spec.shapes[name], refs[name].shape
        if expected[0] != expected[-1] and found in (expected, expected[::-1]):
            votes[found != expected].append(name)
    if votes[True] and votes[False]:
        raise WeightsError(
            f"{checkpoint.path}: its matrices contradict each other: {compact(sorted(votes[True]))} are [out, in], "
            f"{compact(sorted(votes[False]))} are [in, out]; a converter that guessed from shapes may have written it"
        )
    return bool(votes[True]) or not (votes[False] or checkpoint.format == "pdparams")


def _is_classifier(spec: ModelSpec, name: str) -> bool:
    return name.rpartition(".")[0] in spec.classifier


@dataclass
class _Problems:
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def raise_if_any(self, spec: ModelSpec, checkpoint: Checkpoint, state: State, rename: Callable[[str], str]) -> None:
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
        names = likely_presets({rename(key): ref.shape for key, ref in state.tensors.items()})
        hint = f" It fits {' or '.join(names)}." if names else ""
        raise WeightsError(f"{checkpoint.path}: does not fit {spec.label}.{hint} {'; '.join(parts)}")
