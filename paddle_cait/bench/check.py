"""Does an engine compute the same? Asked before anything is timed: a wrong answer has no speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Largest difference, as a part of the largest expected value, by precision. In float32 it is rounding over the depth of
# the model. The others are too coarse to prove anything: what is beyond them is not the same model.
LIMITS = {"fp32": 1e-3, "bf16": 0.25, "int8": 0.5, "exact": 0.0}


@dataclass(frozen=True)
class Agreement:
    """``top1_equal`` of ``images`` have the same best class; None where the values are no logits."""

    difference: float
    images: int
    top1_equal: int | None


def compare(found: np.ndarray, expected: np.ndarray) -> Agreement:
    """``expected``: logits [N, classes], or numbers [N] of another kind."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return Agreement(float("inf"), len(expected), 0 if expected.ndim == 2 else None)
    largest = max(float(np.abs(expected).max()), np.finfo(np.float32).tiny)
    difference = float(np.abs(found.astype(np.float64) - expected).max()) / largest
    top1 = int((found.argmax(1) == expected.argmax(1)).sum()) if expected.ndim == 2 else None
    return Agreement(difference, len(expected), top1)


def refusal(agreement: Agreement, precision: str) -> str:
    """Why this engine is not timed, or an empty string."""
    limit = LIMITS[precision]
    if agreement.difference <= limit:
        return ""
    return f"computes something else: off by {agreement.difference:.1e} of the largest value, the limit is {limit:.0e}"
