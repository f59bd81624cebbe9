"""Affine maps and what can be moved into them, in float64: exact algebra, rounded once at the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from paddle import nn


def array(parameter: object) -> np.ndarray:
    """A parameter as float64."""
    return np.asarray(parameter.numpy(), np.float64)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Affine:
    """``x @ weight + bias``; weight [in, out], bias [out]."""

    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, linear: nn.Linear) -> Affine:
        weight = array(linear.weight)
        return cls(weight, np.zeros(weight.shape[1]) if linear.bias is None else array(linear.bias))

    def after(self, norm: nn.LayerNorm) -> Affine:
        """The norm's scale and shift come first; what stays of the norm has neither."""
        return Affine(array(norm.weight)[:, None] * self.weight, self.bias + array(norm.bias) @ self.weight)

    def scaled(self, by: np.ndarray | float) -> Affine:
        """The result times ``by``, a number or one a column: LayerScale, the scale of a query."""
        return Affine(self.weight * by, self.bias * by)

    def columns(self, start: int, stop: int) -> Affine:
        return Affine(self.weight[:, start:stop], self.bias[start:stop])

    def without_bias(self) -> Affine:
        return Affine(self.weight, np.zeros_like(self.bias))

    def plus(self, shift: np.ndarray) -> Affine:
        """The result plus a constant."""
        return Affine(self.weight, self.bias + shift)


def beside(*maps: Affine) -> Affine:
    """One map that gives the results of several, side by side."""
    return Affine(np.concatenate([m.weight for m in maps], 1), np.concatenate([m.bias for m in maps]))
