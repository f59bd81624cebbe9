"""Checkpoints out: our layout or the official one, written atomically, with their provenance beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddle_cait.errors import WeightsError
from paddle_cait.files import PathLike, atomic_writers
from paddle_cait.weights.pdparams_files import write_pdparams
from paddle_cait.weights.plan import ModelSpec, Plan, Step
from paddle_cait.weights.safetensors_files import write_safetensors
from paddle_cait.weights.tensors import OutTensor, as_float32

LAYOUT_NAMES = ("paddle", "official")
DTYPES = ("keep", "float32")
SUFFIXES = (".pdparams", ".safetensors")


def check_output(path: PathLike, layout: str, dtype: str) -> None:
    """Refuse an output that cannot be written before any work is done."""
    if Path(path).suffix not in SUFFIXES:
        raise WeightsError(f"{path}: the output's name must end in {' or '.join(SUFFIXES)}, which chooses the format")
    if layout not in LAYOUT_NAMES:
        raise WeightsError(f"layout is {layout!r}, expected {' or '.join(LAYOUT_NAMES)}")
    if dtype not in DTYPES:
        raise WeightsError(f"dtype is {dtype!r}, expected {' or '.join(DTYPES)}")


def provenance_path(path: PathLike) -> Path:
    """``out.pdparams`` -> ``out.pdparams.json``."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def store(
    plan: Plan, spec: ModelSpec, path: PathLike, layout: str, dtype: str, provenance: dict[str, Any]
) -> dict[str, Any]:
    """Write the tensors of ``plan`` one at a time to ``path`` and ``provenance`` to ``path + '.json'``.

    ``layout``: ``paddle`` (Linear weights [in, out]) or ``official`` (PyTorch's [out, in]); the names are the same.
    Returns the provenance with the output's own sha256 in it.
    """
    check_output(path, layout, dtype)
    tensors = [_out(spec, name, step, plan.transposed, layout, dtype) for name, step in plan.steps.items()]
    with atomic_writers(provenance_path(path), path) as (beside, file):
        hashing = _HashingWriter(file)
        if Path(path).suffix == ".safetensors":
            metadata = {"format": "pt" if layout == "official" else "pd", "layout": layout, "model": spec.label}
            write_safetensors(hashing, tensors, metadata)
        else:
            write_pdparams(hashing, tensors)
        provenance["output"] = {"file": Path(path).name, "layout": layout, "sha256": hashing.digest.hexdigest()}
        beside.write(json.dumps(provenance, indent=2, ensure_ascii=False).encode() + b"\n")
    return provenance


def store_arrays(path: PathLike, arrays: Mapping[str, np.ndarray], provenance: dict[str, Any]) -> None:
    """Write a trained model's own tensors, Linear weights [in, out], with ``provenance`` beside them."""
    check_output(path, "paddle", "keep")
    tensors = [OutTensor(name, value.shape, str(value.dtype), _holds(value)) for name, value in arrays.items()]
    with atomic_writers(provenance_path(path), path) as (beside, file):
        hashing = _HashingWriter(file)
        if Path(path).suffix == ".safetensors":
            write_safetensors(hashing, tensors, {"format": "pd", "layout": "paddle"})
        else:
            write_pdparams(hashing, tensors)
        output = {"file": Path(path).name, "layout": "paddle", "sha256": hashing.digest.hexdigest()}
        beside.write(json.dumps({**provenance, "output": output}, indent=2, ensure_ascii=False).encode() + b"\n")


def _holds(value: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: np.ascontiguousarray(value)


def _out(spec: ModelSpec, name: str, step: Step, transposed: bool, layout: str, dtype: str) -> OutTensor:
    turn = name in spec.linear and transposed != (layout == "official")
    shape = tuple(reversed(step.ref.shape)) if turn else step.ref.shape
    return OutTensor(name, shape, step.ref.dtype if dtype == "keep" else dtype, _reader(step, turn, dtype))


def _reader(step: Step, turn: bool, dtype: str) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        value = step.ref.read() if dtype == "keep" else as_float32(step.ref.read(), step.ref.dtype)
        return np.ascontiguousarray(value.T if turn else value)

    return read


class _HashingWriter:
    """A file that is hashed while it is written, so that nothing is read twice."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)
