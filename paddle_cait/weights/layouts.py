"""Key layouts: whose names, whose orientation, what is left out and why. A layout is one row of a table.

The package's own names are the authors' (facebookresearch/deit), so most rows are short.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paddle_cait.errors import WeightsError
from paddle_cait.weights.tensors import Checkpoint, TensorRef


@dataclass(frozen=True)
class Layout:
    """``renames``: (regex, replacement) on each key, in order. ``left_out``: (regex, reason) for other keys."""

    name: str
    renames: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    def rename(self, key: str) -> str:
        for pattern, replacement in self.renames:
            key = re.sub(pattern, replacement, key)
        return key

    def reason_to_leave_out(self, key: str) -> str | None:
        return next((reason for pattern, reason in self.left_out if re.search(pattern, key)), None)


# The first layout that explains most keys wins. Orientation is no part of a layout: it is read off the matrices.
LAYOUTS = (
    Layout("official"),  # facebookresearch/deit, timm, Paddle-Image-Models, this package
    Layout("paddlevit", renames=((r"^patch_embed\.patch_embed\.", "patch_embed.proj."),)),
)

# Put around every key by DistributedDataParallel and its kin.
PREFIXES = ("module.", "_orig_mod.")

# Entries of a training checkpoint that hold weights, the preferred first; the others are chosen with `entry`.
ENTRIES = ("model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema", "ema")


@dataclass(frozen=True)
class State:
    """One set of weights of a file: tensors by the file's own keys, without wrapper prefix."""

    entry: str  # "" for a file that holds the tensors directly
    tensors: dict[str, TensorRef]
    left_out: dict[str, str]


def select_state(checkpoint: Checkpoint, entry: str | None = None) -> State:
    """The set of weights ``entry`` of a file, or the first known one; the rest is left out with a reason."""
    states = _states(checkpoint.tree)
    if not states:
        raise WeightsError(
            f"{checkpoint.path}: holds no tensors (found {_names(map(str, checkpoint.tree), 8) or 'nothing'})"
        )
    if entry is None:
        known = [name for name in ("", *ENTRIES) if name in states] or (list(states) if len(states) == 1 else [])
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
        if isinstance(value, TensorRef):
            tensors[key] = value
        else:
            left_out[key] = f"not a tensor but {type(value).__name__}"
    return State(entry, _without_prefix(tensors), left_out)


def choose_layout(keys: Iterable[str], wanted: Mapping[str, Any]) -> Layout:
    """The layout under which most of ``keys`` are names of the model."""
    keys = list(keys)
    return max(LAYOUTS, key=lambda layout: sum(layout.rename(key) in wanted for key in keys))


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
