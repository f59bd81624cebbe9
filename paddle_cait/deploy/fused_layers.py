"""Layers of fused models: parameters are set from arrays, every size but the batch's is a constant of the graph.

Constant sizes matter: a runtime that sees ``Shape -> Slice -> Concat -> Reshape`` computes sizes at run time and gives
up the kernels that need to know them.

Shapes: B images, T tokens, P prefix tokens, C channels, H heads, D = C/H channels a head.
"""

from __future__ import annotations

import copy

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.deploy.fold import Affine
from paddle_cait.layers.affine import linear


def parameter(layer: nn.Layer, values: np.ndarray) -> Tensor:
    """A float32 parameter of ``layer`` that holds ``values``."""
    start = nn.initializer.Assign(np.ascontiguousarray(values, np.float32))
    return layer.create_parameter(list(values.shape), dtype="float32", default_initializer=start)


def copy_of(layer: nn.Layer) -> nn.Layer:
    """A layer with parameters of its own, so that training the original leaves the fused model alone."""
    return copy.deepcopy(layer)


class Linear(nn.Layer):
    """[..., in] -> [..., out]; without an addition where the bias is zero."""

    def __init__(self, affine: Affine) -> None:
        super().__init__()
        self.weight = parameter(self, affine.weight)
        self.bias = parameter(self, affine.bias) if affine.bias.any() else None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Norm(nn.Layer):
    """Layer norm whose scale and shift were moved into what follows, [..., C] -> [..., C]."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(norm.weight.shape[0], epsilon=norm._epsilon)  # scale 1, shift 0: runtimes drop them

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Mlp(nn.Layer):
    """``Mlp`` after ``norm``, times ``gamma``: [..., C] -> [..., C]."""

    def __init__(self, mlp: nn.Layer, norm: nn.LayerNorm, gamma: np.ndarray | float) -> None:
        super().__init__()
        self.approximate = mlp.approximate
        self.fc1 = Linear(Affine.of(mlp.fc1).after(norm))
        self.fc2 = Linear(Affine.of(mlp.fc2).scaled(gamma))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), self.approximate))


class SwiGlu(nn.Layer):
    """``SwiGlu`` after ``norm``, times ``gamma``: [..., C] -> [..., C].

    Two products instead of one that would have to be split.
    """

    def __init__(self, mlp: nn.Layer, norm: nn.LayerNorm, gamma: np.ndarray | float) -> None:
        super().__init__()
        both = Affine.of(mlp.w12).after(norm)
        half = len(both.bias) // 2
        self.w1, self.w2 = Linear(both.columns(0, half)), Linear(both.columns(half, 2 * half))
        self.w3 = Linear(Affine.of(mlp.w3).scaled(gamma))

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


class Attention(nn.Layer):
    """Self-attention of ``tokens`` tokens, [B, T, C] -> [B, T, C]. Exact folds:

    - the query's scale lies in its weights;
    - the key's bias adds to all scores of a query alike, so the softmax cancels it;
    - rows of the map sum to 1, so the value's bias passes through and joins the projection's.
    """

    def __init__(self, q: Affine, k: Affine, v: Affine, proj: Affine, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads, self.tokens, self.dim = heads, tokens, len(q.bias)
        self.q, self.k, self.v = Linear(q), Linear(k.without_bias()), Linear(v.without_bias())
        self.proj = Linear(proj.plus(v.bias @ proj.weight))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._split(self.q(x)), self._split(self.k(x)), self._split(self.v(x))
        x = paddle.matmul(self.attention(q, k), v)
        return self.proj(x.transpose([0, 2, 1, 3]).reshape([-1, self.tokens, self.dim]))

    def attention(self, q: Tensor, k: Tensor) -> Tensor:
        """The maps [B, H, T, T]."""
        return F.softmax(paddle.matmul(q, k, transpose_y=True), axis=-1)

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, H, T, D]."""
        return x.reshape([-1, self.tokens, self.heads, self.dim // self.heads]).transpose([0, 2, 1, 3])


class FewQueries(nn.Layer):
    """Attention whose queries are the first ``queries`` of ``tokens`` tokens; no token's key or value is computed.

    A score is q . (W_k x) = (W_k^T q) . x, and sum_n a_n W_v x_n = W_v sum_n a_n x_n: each head's matrices meet its few
    queries instead of all tokens, T*C*H multiplications for each instead of T*C*C.
    [B, T, C] -> ([B, P, C], the map [B, H, P, T]).
    """

    def __init__(self, q: Affine, k: Affine, v: Affine, proj: Affine, heads: int, tokens: int, queries: int) -> None:
        super().__init__()
        self.heads, self.tokens, self.queries, self.dim = heads, tokens, queries, len(q.bias)
        depth = self.dim // heads
        self.q = Linear(q)
        self.k = parameter(self, k.weight.T.reshape(heads, depth, -1))  # [H, D, C]
        self.v = parameter(self, v.weight.reshape(-1, heads, depth).transpose(1, 0, 2))  # [H, C, D]
        self.proj = Linear(proj.plus(v.bias @ proj.weight))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        heads, queries, dim = self.heads, self.queries, self.dim
        q = self.q(x[:, :queries]).reshape([-1, heads, dim // heads]).transpose([1, 0, 2])  # [H, B*P, D]
        q = paddle.matmul(q, self.k).transpose([1, 0, 2]).reshape([-1, queries * heads, dim])
        maps = self.attention(q, x)
        x = paddle.matmul(maps, x).reshape([-1, heads, dim]).transpose([1, 0, 2])  # [H, B*P, C]
        x = paddle.matmul(x, self.v).transpose([1, 0, 2]).reshape([-1, queries, dim])
        return self.proj(x), self.by_head(maps)

    def attention(self, q: Tensor, x: Tensor) -> Tensor:
        """The maps [B, P*H, T]."""
        return F.softmax(paddle.matmul(q, x, transpose_y=True), axis=-1)

    def by_head(self, maps: Tensor) -> Tensor:
        """What ``attention`` gives -> [B, H, P, T]."""
        return maps.reshape([-1, self.queries, self.heads, self.tokens]).transpose([0, 2, 1, 3])
