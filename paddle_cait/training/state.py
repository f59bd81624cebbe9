"""A run's memory, one file: weights, their average, the optimizer's moments, and where the run stands.

A safetensors file, so that reading it executes nothing; its parts are told apart by a prefix. Appears whole or not at
all.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle

from paddle_cait.errors import PaddleCaitError, WeightsError
from paddle_cait.files import PathLike, atomic_writers
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.safetensors_files import write_safetensors
from paddle_cait.weights.tensors import Checkpoint, OutTensor

if TYPE_CHECKING:
    from paddle_cait.training.trainer import Trainer

PARTS = ("model", "ema", "optimizer")
_FORMAT = "paddle_cait training state 1"
_ELSEWHERE = "choose another --output-dir to begin again"
_ABOUT = {"epoch", "update", "history", "losses", "identity"}


@dataclass
class RunState:
    """``arrays``: part -> name -> values. ``about``: whatever JSON can hold: epoch, update, history, identity."""

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
    with _opened(path) as checkpoint:
        metadata: Mapping[str, str] = checkpoint.metadata or {}
        if metadata.get("format") != _FORMAT:
            raise PaddleCaitError(f"{path}: holds no state of a training run; to start from weights pass --weights")
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for key, ref in checkpoint.tree.items():
            part, _, name = str(key).partition("/")
            arrays.setdefault(part, {})[name] = ref.read()
        try:
            about = json.loads(metadata.get("about", ""))
        except (ValueError, RecursionError) as error:
            raise _damaged(path, "its description is no JSON") from error
    lacking = sorted(_ABOUT - set(about)) if isinstance(about, dict) else sorted(_ABOUT)
    if lacking:
        raise _damaged(path, f"it does not say {lacking[0]}")
    return RunState(arrays, about)


@contextlib.contextmanager
def _opened(path: PathLike) -> Iterator[Checkpoint]:
    try:
        with open_checkpoint(path) as checkpoint:
            yield checkpoint
    except WeightsError as error:  # whose advice is for files that came from elsewhere
        raise PaddleCaitError(f"{str(error).partition('; ')[0]}: nothing to resume; {_ELSEWHERE}") from error


def check_identity(state: RunState, identity: Mapping[str, Any], path: PathLike) -> None:
    """Raises :class:`PaddleCaitError` if the state is another run's. ``path``: the state's, for messages."""
    for key, value in identity.items():
        earlier = state.about["identity"].get(key)
        if earlier != value:
            both = f"other {key}"
            if not key.endswith(" images"):  # of which a hash is known
                both = f"{key} {earlier!r}, now it is {value!r}"
            raise PaddleCaitError(f"{path}: was written with {both}: resume with the same, or {_ELSEWHERE}")


def state_of(trainer: Trainer, about: dict[str, Any]) -> RunState:
    """All that the next update depends on, and ``about`` the run."""
    arrays = {"model": _numpy(trainer.model.state_dict()), "optimizer": trainer.optimizer.state()}
    if trainer.ema is not None:
        arrays["ema"] = _numpy(trainer.ema.average)
    return RunState(arrays, {**about, "scaler": trainer.scaler.state_dict() if trainer.scaler else None})


def restore(trainer: Trainer, state: RunState, path: PathLike) -> None:
    """Bring a trainer that has not begun to where :func:`state_of` was called. ``path``: the state's, for messages.

    Raises :class:`PaddleCaitError` if a tensor is missing or of another shape; the trainer is as it was then.
    """
    weights = trainer.model.state_dict()
    learning = trainer.optimizer.parameters
    moments = state.arrays.get("optimizer", {})
    _check_shapes(path, "model", state.arrays.get("model", {}), weights)
    if trainer.ema is not None:
        _check_shapes(path, "ema", state.arrays.get("ema", {}), weights)
    for kind in ("moment1_0", "moment2_0"):
        found = {key.rpartition(":")[0]: values for key, values in moments.items() if key.endswith(f":{kind}")}
        _check_shapes(path, kind, found, learning)
    trainer.model.set_state_dict({name: paddle.to_tensor(values) for name, values in state.arrays["model"].items()})
    trainer.optimizer.restore(moments)
    if trainer.ema is not None:
        for name, values in state.arrays["ema"].items():
            trainer.ema.average[name].set_value(values)
    if trainer.scaler is not None:
        trainer.scaler.load_state_dict(state.about["scaler"])


def _check_shapes(path: PathLike, part: str, found: Mapping[str, np.ndarray], wanted: Mapping[str, Any]) -> None:
    for name in sorted({*found, *wanted}):
        has = list(found[name].shape) if name in found else "missing"
        needs = list(wanted[name].shape) if name in wanted else "none"
        if has != needs:
            raise _damaged(path, f"{part} {name} is {has}, the model's is {needs}")


def _damaged(path: PathLike, what: str) -> PaddleCaitError:
    return PaddleCaitError(f"{path}: {what}: the state is damaged or another model's; {_ELSEWHERE}")


def _numpy(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in tensors.items()}


def _reader(values: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: values
