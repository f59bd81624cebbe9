"""A run's memory, one file: weights, their average, the optimizer's moments, and where the run stands.

A safetensors file, so that reading it executes nothing; its parts are told apart by a prefix. Appears whole or not at
all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.errors import PaddleCaitError
from paddle_cait.files import PathLike, atomic_writers
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.safetensors_files import write_safetensors
from paddle_cait.weights.tensors import OutTensor

PARTS = ("model", "ema", "optimizer")
_FORMAT = "paddle_cait training state 1"


@dataclass
class RunState:
    """``arrays``: part -> name -> values. ``about``: whatever JSON can hold: epoch, update, history, settings."""

    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def write_state(path: PathLike, state: RunState) -> None:
    tensors = [
        OutTensor(f"{part}/{name}", values.shape, str(values.dtype), _reader(values))
        for part, named in state.arrays.items()
        for name, values in named.items()
    ]
    with atomic_writers(path) as (file,):
        write_safetensors(file, tensors, {"format": _FORMAT, "about": json.dumps(state.about)})


def read_state(path: PathLike) -> RunState:
    """Raises :class:`PaddleCaitError` for a file that is damaged or none of these."""
    if not Path(path).is_file():
        raise PaddleCaitError(f"{path}: no such file, nothing to resume")
    with open_checkpoint(path) as checkpoint:
        metadata: Mapping[str, str] = checkpoint.metadata or {}
        if metadata.get("format") != _FORMAT:
            raise PaddleCaitError(f"{path}: holds no state of a training run; to start from weights pass --weights")
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for key, ref in checkpoint.tree.items():
            part, _, name = str(key).partition("/")
            arrays.setdefault(part, {})[name] = ref.read()
        about = json.loads(metadata["about"])
    return RunState(arrays, about)


def _reader(values: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: values
