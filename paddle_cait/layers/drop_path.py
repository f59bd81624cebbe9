"""Stochastic depth per sample (Huang et al. 2016), as in timm's ``DropPath``."""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError


class DropPath(nn.Layer):
    """In training, zeroes a sample's whole branch with probability ``rate`` and scales the others by 1/(1-rate).

    [B, ...] -> the same; in evaluation nothing changes. Raises :class:`PaddleCaitError` for a
    rate outside 0 <= rate < 1.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise PaddleCaitError(f"drop path rate is {rate}, expected 0 <= rate < 1")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        # Dropout with a mask along the batch alone.
        return F.dropout(x, self.rate, axis=0, training=self.training) if self.rate > 0.0 else x
