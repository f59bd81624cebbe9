"""A file's tensors under the package's names: renamed, in PyTorch's or Paddle's form, parts joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paddle_cait.errors import WeightsError
from paddle_cait.weights.forms import joined
from paddle_cait.weights.layouts import PARTS, Layout
from paddle_cait.weights.states import State
from paddle_cait.weights.tensors import Checkpoint, TensorRef
from paddle_cait.weights.wording import compact


@dataclass(frozen=True)
class Canonical:
    """``refs`` by our names. ``transposed``: Linear weights are PyTorch's [out, in]. ``foreign``: no file of ours."""

    refs: dict[str, TensorRef]
    transposed: bool
    foreign: bool

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: ref.shape for name, ref in self.refs.items()}


def canonical(
    state: State,
    layout: Layout,
    linear: Iterable[str],
    expected: Mapping[str, tuple[int, ...]],
    checkpoint: Checkpoint,
) -> Canonical:
    """Apply ``layout``. ``linear`` are names of Linear weights, ``expected`` their shapes [in, out]: those that are not
    square tell the file's orientation where the layout does not."""
    refs: dict[str, TensorRef] = {}
    parts: dict[str, dict[str, TensorRef]] = {}
    for key, ref in state.tensors.items():
        renamed = layout.rename(key)
        name, _, part = renamed.partition("#")
        if part not in PARTS:
            name, part = renamed, ""
        ref = layout.in_form(renamed, ref)
        place = parts.setdefault(name, {}) if part else refs
        if (part or name) in place or (part and name in refs):
            raise WeightsError(f"{checkpoint.path}: two tensors are named {name!r} under {layout.name} names")
        place[part or name] = ref
    if layout.in_out is None:
        transposed = _pytorch_orientation(linear, expected, refs, checkpoint)
    else:
        transposed = not layout.in_out
    for name, some in parts.items():
        refs[name] = _joined(name, some, transposed, checkpoint)
    return Canonical(refs, transposed, foreign=transposed or layout.in_out is not None)


def _joined(name: str, parts: dict[str, TensorRef], transposed: bool, checkpoint: Checkpoint) -> TensorRef:
    """The parts of one tensor, one after the other along its outputs."""
    refs = [parts[part] for part in PARTS if part in parts]
    if len({(ref.shape, ref.dtype) for ref in refs}) > 1 or not refs[0].shape:
        found = ", ".join(f"{part} {ref.dtype} {list(ref.shape)}" for part, ref in parts.items())
        raise WeightsError(f"{checkpoint.path}: the parts of {name} cannot be joined: {found}")
    return joined(refs, 0 if transposed or len(refs[0].shape) < 2 else 1)


def _pytorch_orientation(
    linear: Iterable[str],
    expected: Mapping[str, tuple[int, ...]],
    refs: Mapping[str, TensorRef],
    checkpoint: Checkpoint,
) -> bool:
    """Are Linear weights [out, in]? The matrices that are not square decide together: a square one cannot tell."""
    votes: dict[bool, list[str]] = {True: [], False: []}
    for name in set(linear) & refs.keys():
        wanted, found = expected[name], refs[name].shape
        if wanted[0] != wanted[-1] and found in (wanted, wanted[::-1]):
            votes[found != wanted].append(name)
    if votes[True] and votes[False]:
        raise WeightsError(
            f"{checkpoint.path}: its matrices contradict each other: {compact(sorted(votes[True]))} are [out, in], "
            f"{compact(sorted(votes[False]))} are [in, out]; a converter that guessed from shapes may have written it"
        )
    return bool(votes[True]) or not (votes[False] or checkpoint.format == "pdparams")
