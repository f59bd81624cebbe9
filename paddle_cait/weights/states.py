"""Which set of weights of a file is meant: training checkpoints hold several, and much besides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paddle_cait.errors import WeightsError
from paddle_cait.weights.tensors import Checkpoint, TensorRef

# Put around every key by DistributedDataParallel and its kin.
PREFIXES = ("module.", "_orig_mod.")

# Entries of a training checkpoint that hold weights, the preferred first; the others are chosen with `entry`.
ENTRIES = ("model", "state_dict", "model_state_dict", "teacher", "model_ema", "state_dict_ema", "ema")
# Entries that are loaded only when asked for: the published DINO weights are the teacher's.
ASKED_FOR = {"student": "the presets dino_* and dinov2_* and their numbers are the teacher's"}


@dataclass(frozen=True)
class State:
    """One set of weights of a file: tensors by the file's own keys, without wrapper prefix."""

    entry: str  # "" for a file that holds the tensors directly
    tensors: dict[str, TensorRef]
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()


def select_state(checkpoint: Checkpoint, entry: str | None = None) -> State:
    """The set of weights ``entry`` of a file, or the first known one; the rest is left out with a reason."""
    states = _states(checkpoint.tree)
    if not states:
        raise WeightsError(
            f"{checkpoint.path}: holds no tensors (found {_names(map(str, checkpoint.tree), 8) or 'nothing'})"
        )
    if entry is None:
        known = [name for name in ("", *ENTRIES) if name in states]
        known = known or [name for name in states if len(states) == 1 and name not in ASKED_FOR]
        if not known and len(states) == 1:
            only = next(iter(states))
            raise WeightsError(
                f"{checkpoint.path}: holds the {only} alone, while {ASKED_FOR[only]}. "
                f"To load it all the same: entry={only!r}"
            )
        if not known:
            raise WeightsError(
                f"{checkpoint.path}: holds several sets of weights, choose one with entry: {_names(states)}"
            )
        entry = known[0]
    elif entry not in states:
        raise WeightsError(
            f"{checkpoint.path}: has no entry {entry!r} with weights, it has {_names(map(repr, states))}"
        )
    left_out = {}
    for key in checkpoint.tree:
        if entry != "" and key != entry:
            left_out[key] = (
                f"another set of weights: choose it with entry={key!r}" if key in states else "training state"
            )
    tensors = {}
    for key, value in states[entry].items():
        if not isinstance(value, TensorRef):
            left_out[str(key)] = f"not a tensor but {type(value).__name__}"
        elif str(key) in tensors:
            raise WeightsError(f"{checkpoint.path}: two tensors are named {key!s}, one by text and one by number")
        else:
            tensors[str(key)] = value
    notes = (f"these are the {entry}'s weights, while {ASKED_FOR[entry]}",) if entry in ASKED_FOR else ()
    return State(entry, _without_prefix(tensors), left_out, notes)


def _states(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    if any(isinstance(value, TensorRef) for value in tree.values()):
        return {"": tree}
    return {
        key: value
        for key, value in tree.items()
        if isinstance(key, str) and isinstance(value, Mapping) and any(isinstance(v, TensorRef) for v in value.values())
    }


def _without_prefix(tensors: dict[str, TensorRef]) -> dict[str, TensorRef]:
    for prefix in PREFIXES:
        if tensors and all(str(key).startswith(prefix) for key in tensors):
            return _without_prefix({key[len(prefix) :]: value for key, value in tensors.items()})
    return tensors


def _names(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
