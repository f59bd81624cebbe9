"""Multi-head self-attention (Vaswani et al. 2017) as in all Vision Transformers; parameters ``qkv`` and ``proj``."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.layers import init


def scale_of(dim: int, num_heads: int) -> float:
    """1 / sqrt(D), for heads of width D = dim / num_heads."""
    if num_heads < 1 or dim % num_heads:
        raise PaddleCaitError(f"embed_dim {dim} is no multiple of num_heads {num_heads}")
    return (dim // num_heads) ** -0.5


class Attention(nn.Layer):
    """[B, N, C] -> [B, N, C]. ``qkv`` gives query, key and value in this order, each head by head: C = H*D."""

    def __init__(self, dim: int, num_heads: int, attn_drop: float = 0.0, drop: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale_of(dim, num_heads)
        self.qkv = init.linear(dim, 3 * dim)
        self.proj = init.linear(dim, dim)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).reshape([0, 0, 3, self.num_heads, -1]).transpose([2, 0, 3, 1, 4])
        q, k, v = qkv[0], qkv[1], qkv[2]  # each [B, H, N, D]
        x = paddle.matmul(self.attn_drop(self.attention(q, k)), v)
        return self.proj_drop(self.proj(x.transpose([0, 2, 1, 3]).flatten(2)))

    def attention(self, q: Tensor, k: Tensor) -> Tensor:
        """The maps [B, H, N, N] that weigh the values; rows sum to 1."""
        return F.softmax(paddle.matmul(q * self.scale, k, transpose_y=True), axis=-1)
