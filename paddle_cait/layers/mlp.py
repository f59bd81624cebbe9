"""The transformer's two-layer perceptron (Vaswani et al. 2017) and its gated form (SwiGLU, Shazeer 2020)."""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.layers import init

# The JAX originals of ViT use the tanh approximation; every PyTorch port, DeiT and DINO the exact form.
GELU_FORMS = {"gelu": False, "gelu_tanh": True}


class Mlp(nn.Layer):
    """[..., dim] -> [..., dim] through ``hidden`` features; parameters ``fc1`` and ``fc2``.

    ``act``: ``gelu`` is exact (erf), ``gelu_tanh`` its tanh approximation (up to 5e-4 away).
    """

    def __init__(self, dim: int, hidden: int, drop: float = 0.0, act: str = "gelu") -> None:
        super().__init__()
        if act not in GELU_FORMS:
            raise PaddleCaitError(f"act is {act!r}, expected {' or '.join(GELU_FORMS)}")
        self.approximate = GELU_FORMS[act]
        self.fc1 = init.linear(dim, hidden)
        self.fc2 = init.linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x), self.approximate))))


class SwiGlu(nn.Layer):
    """[..., dim] -> [..., dim]: ``w3(silu(a) * b)`` with a, b the halves of ``w12(x)``, as DINOv2's ViT-g.

    ``hidden`` is that of the plain Mlp it replaces: two thirds of it, rounded up to a multiple of 8, keep its size.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        width = (hidden * 2 // 3 + 7) // 8 * 8
        self.w12 = init.linear(dim, 2 * width)
        self.w3 = init.linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.w12(x).chunk(2, axis=-1)
        return self.w3(F.silu(a) * b)
