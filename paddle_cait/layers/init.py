"""Initial weights as the authors' PyTorch code draws them; Paddle's own defaults differ between versions."""

from __future__ import annotations

import math

import paddle
from paddle import nn

from paddle_cait.layers.affine import Conv2D, Linear

ZEROS = nn.initializer.Constant(0.0)
ONES = nn.initializer.Constant(1.0)
# timm's trunc_normal_(std=0.02) cuts at +-2 absolute, a hundred standard deviations: it is the plain normal.
NORMAL_02 = nn.initializer.Normal(mean=0.0, std=0.02)


def linear(fan_in: int, fan_out: int, bias: bool = True) -> Linear:
    """``nn.Linear`` with weight [fan_in, fan_out] drawn from N(0, 0.02) and zero bias, as in all ViT descendants."""
    return Linear(
        fan_in, fan_out, weight_attr=NORMAL_02, bias_attr=paddle.ParamAttr(initializer=ZEROS) if bias else False
    )


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
) -> Conv2D:
    """``nn.Conv2D`` with PyTorch's default init: U(+-1/sqrt(fan_in)) for weight and bias."""
    bound = 1.0 / math.sqrt(in_channels // groups * kernel_size * kernel_size)
    uniform = nn.initializer.Uniform(-bound, bound)
    return Conv2D(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=padding,
        groups=groups,
        weight_attr=uniform,
        bias_attr=uniform if bias else False,
    )
