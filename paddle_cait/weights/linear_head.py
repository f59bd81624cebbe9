"""Linear classifiers on frozen features, as the authors of DINO and DINOv2 publish them: files of one matrix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from paddle_cait.errors import WeightsError
from paddle_cait.files import PathLike, sha256_file
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.tensors import Checkpoint, TensorRef, as_float32, quote


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier as its file has it: ``weight`` float32 [classes, F], ``bias`` float32 [classes].

    ``path``, ``sha256``: of that file.
    """

    weight: np.ndarray
    bias: np.ndarray
    path: str
    sha256: str


def read_linear_head(path: PathLike) -> LinearHead:
    """A linear classifier from a checkpoint of any supported format: its ``weight`` and ``bias`` and nothing else.

    ``module.`` and ``linear.`` before the names, and ``state_dict`` around them, are DINO's. Raises
    :class:`WeightsError` for a file that holds something else.
    """
    with open_checkpoint(path) as checkpoint:
        weight, bias = _classifier(checkpoint)
        matrix, vector = (as_float32(ref.read(), ref.dtype) for ref in (weight, bias))
        square = weight.shape[0] == weight.shape[1]
        if weight.shape[0] != bias.shape[0] or (square and checkpoint.format == "pdparams"):
            matrix = matrix.T  # Paddle's own orientation, [F, classes]
    return LinearHead(matrix, vector, str(path), sha256_file(path))


def _classifier(checkpoint: Checkpoint) -> tuple[TensorRef, TensorRef]:
    tree = checkpoint.tree.get("state_dict", checkpoint.tree)
    tensors = (
        [(str(key), ref) for key, ref in tree.items() if isinstance(ref, TensorRef)]
        if isinstance(tree, Mapping)
        else []
    )
    found = {re.sub(r"^(module\.)?(linear\.)?", "", key): ref for key, ref in tensors}
    if len(tensors) == 2 and set(found) == {"weight", "bias"}:
        weight, bias = found["weight"], found["bias"]
        if len(weight.shape) == 2 and len(bias.shape) == 1 and bias.shape[0] in weight.shape and bias.shape[0]:
            return weight, bias
    held = ", ".join(f"{quote(key, 60)} {list(ref.shape)}" for key, ref in tensors[:4]) or "no tensors"
    raise WeightsError(
        f"{checkpoint.path}: holds {held}{', ...' if len(tensors) > 4 else ''}, expected a linear classifier alone: "
        "weight [classes, features] and bias [classes]"
    )
