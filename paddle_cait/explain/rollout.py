"""Attention rollout (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928): attention followed down to the input.

A token after a block is half what it was before and half what its attention brought, so a block acts as the matrix
``(A + I) / 2`` on what tokens are made of, and the product of all blocks says what the class token is made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable

import numpy as np

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.capture import AttentionMaps
from paddle_cait.explain.tokens import array, asking_tokens, on_grid, refuse_windows

FUSIONS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "min": np.min, "max": np.max}


def attention_rollout(
    maps: AttentionMaps, head_fusion: str = "mean", discard_ratio: float = 0.0, token: int | None = None
) -> np.ndarray:
    """How much of each patch is in the class token after the last block: float64 [B, grid h, grid w].

    Each layer's heads are fused, the discarded weights become 0, the identity is added for the residual branch, and
    rows are divided by their sum. Where rows of A sum to 1 and nothing is discarded this is ``(A + I) / 2``.

    Talking heads (CaiT) mix maps after the softmax. A weight may be negative there and counts by its size: the sign of
    a head is arbitrary, since changing it in the map and in the head's values changes nothing. Rows sum to what
    training made of them, so a row weighs against the residual by its sum.

    What prefix tokens keep for themselves is left out of the result, which thus sums to less than 1.

    Args:
        maps: of all layers of the model, for one forward.
        head_fusion: ``mean`` as in the paper, ``max`` or ``min``.
        discard_ratio: share of each image's fused weights, the smallest ones of a layer, that is set to 0; from 0 to
            less than 1 (not in the paper; it removes a haze of small weights).
        token: 0 the class token, 1 the distillation token; None is the mean of those there are.

    Raises :class:`PaddleCaitError` where layers are missing from ``maps``, for other options, and for GCViT.
    """
    if head_fusion not in FUSIONS:
        raise PaddleCaitError(f"head_fusion is {head_fusion!r}, expected one of {', '.join(FUSIONS)}")
    if not 0 <= discard_ratio < 1:
        raise PaddleCaitError(f"discard_ratio is {discard_ratio}, expected 0 to less than 1")
    refuse_windows(
        maps, "rollout", "no token lives from the first block to the last; windows are merged between levels"
    )
    need_all_layers(maps, "rollout")
    steps = (
        (name, _step(FUSIONS[head_fusion](np.abs(array(maps[name])), axis=1), discard_ratio))
        for name in reversed(maps.layouts)
    )
    return follow_down(maps, steps, token)


def follow_down(maps: AttentionMaps, steps: Iterable[tuple[str, np.ndarray]], token: int | None) -> np.ndarray:
    """The class tokens' row of the product of all steps, [B, grid h, grid w].

    ``steps``: (layer name, [B, queries, keys]), the last layer first: what a layer makes of its tokens. Only rows are
    carried, never the product of matrices: [B, T] times [B, T, T] a layer.
    """
    row: np.ndarray | None = None
    for name, step in steps:
        layout = maps.layouts[name]
        if row is None:
            row = np.zeros([len(step), step.shape[-1]])
            chosen = asking_tokens(layout, token, name)
            row[:, chosen] = 1 / len(chosen)
        elif row.shape[-1] > step.shape[-1]:  # CaiT: the class token did not exist in the patch blocks
            row = row[:, row.shape[-1] - step.shape[-1] :]
        asked = step.shape[1]  # tokens that did not ask stay what they are
        kept = np.concatenate([np.zeros_like(row[:, :asked]), row[:, asked:]], axis=1)
        row = np.einsum("bq,bqk->bk", row[:, :asked], step) + kept
    assert row is not None
    return on_grid(row, layout)


def need_all_layers(maps: AttentionMaps, method: str) -> None:
    if not maps:
        raise PaddleCaitError("no attention was captured: run the model inside the capture_attention block")
    missing = [name for name in maps.layouts if name not in maps]
    if missing:
        raise PaddleCaitError(
            f"{method} follows all {len(maps.layouts)} layers, but {len(missing)} were not captured ({missing[0]} "
            "first): capture them all"
        )


def _step(fused: np.ndarray, discard_ratio: float) -> np.ndarray:
    """Fused maps [B, queries, keys] -> what the queries are made of afterwards, rows summing to 1."""
    dropped = int(fused[0].size * discard_ratio)
    if dropped:
        flat = fused.reshape(len(fused), -1)  # a view of what the fusion made
        smallest = np.argpartition(flat, dropped - 1, axis=1)[:, :dropped]
        np.put_along_axis(flat, smallest, 0.0, axis=1)
    weights = fused + np.eye(*fused.shape[1:])  # class attention: the one query is the first token
    return weights / weights.sum(-1, keepdims=True)
