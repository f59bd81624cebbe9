"""The transformer's two-layer perceptron (Vaswani et al. 2017; exact GELU as in DeiT and CaiT)."""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.layers import init


class Mlp(nn.Layer):
    """[..., dim] -> [..., dim] through ``hidden`` features; parameters ``fc1`` and ``fc2``."""

    def __init__(self, dim: int, hidden: int, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = init.linear(dim, hidden)
        self.fc2 = init.linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))
