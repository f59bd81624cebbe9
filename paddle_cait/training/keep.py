"""A trained model's weights on disk, with all that is needed to use them elsewhere beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.versions import versions
from paddle_cait.weights.store import store_arrays


def keep_weights(
    path: Path,
    model: Any,
    arrays: Mapping[str, np.ndarray],
    names: Sequence[str],
    epoch: int,
    top1: float | None,
    identity: Mapping[str, Any],
) -> None:
    """``arrays`` of ``model`` and, in ``PATH.json``, which model it is, its image size, what its classes are called
    (``names``), and what it was trained on (``identity``)."""
    about = {
        "model": model.preset.full_name,
        "num_classes": len(names),
        "img_size": list(model.img_size),
        "class_names": list(names),
        "epoch": epoch,
        "top1": top1,
        "run": dict(identity),
        "versions": versions(),
    }
    store_arrays(path, arrays, about)
