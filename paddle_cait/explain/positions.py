"""How alike position embeddings are (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929, figure 7 centre)."""

from __future__ import annotations

import numpy as np
from paddle import nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.tokens import array
from paddle_cait.layers.pos_embed import PositionTable

METRICS = ("cosine", "dot")


def position_similarity(model: nn.Layer, metric: str = "cosine") -> np.ndarray:
    """Of each patch's position embedding to every patch's: float64 [grid h, grid w, grid h, grid w].

    The model's own table at its own image size; entries of prefix tokens are left out.

    Args:
        metric: ``cosine`` as in the paper, from -1 to 1, where an embedding of zeros is like none (0); or ``dot``.

    Raises :class:`PaddleCaitError` for models without a table of positions (GCViT).
    """
    if metric not in METRICS:
        raise PaddleCaitError(f"metric is {metric!r}, expected {' or '.join(METRICS)}")
    name, table = _table(model)
    entries = array(getattr(model, name))[0, table.prefix :]
    if metric == "cosine":
        lengths = np.linalg.norm(entries, axis=1, keepdims=True)
        entries = np.divide(entries, lengths, out=np.zeros_like(entries), where=lengths != 0)
    return (entries @ entries.T).reshape(*table.grid, *table.grid)


def _table(model: nn.Layer) -> tuple[str, PositionTable]:
    if not hasattr(model, "position_tables"):
        raise PaddleCaitError(f"{type(model).__name__}: has no position table, expected a model of create_model")
    name, table = next(iter(model.position_tables().items()))
    if not isinstance(table, PositionTable):
        raise PaddleCaitError(
            f"{type(model).__name__}: its patches have no positions: tables give each pair of places in a window a bias"
        )
    return name, table
