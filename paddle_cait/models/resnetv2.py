"""The convolutional stem of the ViT hybrids: "ResNetV2" with weight standardisation and group norm, after activation.

Official source: google-research/vision_transformer, models_resnet.py (Flax). Parameter names are timm's (the .npz has
none of PyTorch's kind). Convolutions and pooling pad as Flax's 'SAME': on even sizes the extra row is at the bottom and
right. ``constants`` chooses the two epsilons: ``flax`` is the authors', with ``timm`` timm's numbers were measured.

Shapes: [B, 3, H, W] -> [B, 256 * 2**(stages-1), H/s, W/s], s = 2**(stages+1); without stages [B, 64, H/4, W/4].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError

WIDTH = 64


@dataclass(frozen=True)
class Constants:
    """``std_epsilon`` is added to the standard deviation, or under its root; ``norm_epsilon`` is group norm's."""

    std_epsilon: float
    under_root: bool
    norm_epsilon: float


CONSTANTS = {
    "flax": Constants(std_epsilon=1e-5, under_root=False, norm_epsilon=1e-6),
    "timm": Constants(std_epsilon=1e-8, under_root=True, norm_epsilon=1e-5),
}


class StdConv(nn.Conv2D):
    """Convolution without bias whose filters are standardised to mean 0 and deviation 1 (Qiao et al. 2019).

    [B, inputs, h, w] -> [B, outputs, ceil(h/stride), ceil(w/stride)].
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, constants: Constants, stride: int = 1) -> None:
        fan_in = nn.initializer.KaimingNormal()
        super().__init__(inputs, outputs, kernel, stride=stride, padding="SAME", weight_attr=fan_in, bias_attr=False)
        self.constants = constants

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.standardised(), stride=self._stride, padding="SAME")

    def standardised(self) -> Tensor:
        """The filters that are applied, [outputs, inputs, k, k]."""
        weight = self.weight.astype("float64")  # float32 here is a quarter of a hybrid's whole rounding error
        centred = weight - weight.mean([1, 2, 3], keepdim=True)
        variance = (centred * centred).mean([1, 2, 3], keepdim=True)
        if self.constants.under_root:
            deviation = paddle.sqrt(variance + self.constants.std_epsilon)
        else:
            deviation = paddle.sqrt(variance) + self.constants.std_epsilon
        return (centred / deviation).astype(self.weight.dtype)


def norm(channels: int, constants: Constants) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, epsilon=constants.norm_epsilon)


class Downsample(nn.Layer):
    """The shortcut where a bottleneck changes shape: [B, inputs, h, w] -> [B, outputs, h/stride, w/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int, constants: Constants) -> None:
        super().__init__()
        self.conv = StdConv(inputs, outputs, 1, constants, stride)
        self.norm = norm(outputs, constants)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1 convolutions beside a shortcut; activation after the sum.

    [B, inputs, h, w] -> [B, 4*width, h/stride, w/stride].
    """

    def __init__(self, inputs: int, width: int, stride: int, constants: Constants) -> None:
        super().__init__()
        outputs = 4 * width
        self.downsample = Downsample(inputs, outputs, stride, constants) if inputs != outputs or stride > 1 else None
        self.conv1, self.norm1 = StdConv(inputs, width, 1, constants), norm(width, constants)
        self.conv2, self.norm2 = StdConv(width, width, 3, constants, stride), norm(width, constants)
        self.conv3, self.norm3 = StdConv(width, outputs, 1, constants), norm(outputs, constants)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        return F.relu(self.norm3(self.conv3(x)) + shortcut)


class Stem(nn.Layer):
    """7x7/2 convolution, norm, 3x3/2 max pooling: [B, 3, H, W] -> [B, 64, H/4, W/4]."""

    def __init__(self, in_chans: int, constants: Constants) -> None:
        super().__init__()
        self.conv = StdConv(in_chans, WIDTH, 7, constants, stride=2)
        self.norm = norm(WIDTH, constants)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.norm(self.conv(x))), 3, stride=2, padding="SAME")


class Stage(nn.Layer):
    """Bottlenecks of one width, the first of which may halve the grid: [B, inputs, h, w] -> [B, 4*width, ...]."""

    def __init__(self, depth: int, inputs: int, width: int, stride: int, constants: Constants) -> None:
        super().__init__()
        self.blocks = nn.LayerList(
            [Bottleneck(4 * width if i else inputs, width, 1 if i else stride, constants) for i in range(depth)]
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class ResNetV2(nn.Layer):
    """Stem and stages; ``layers`` is the number of bottlenecks in each. Shapes: see the top of this file."""

    def __init__(self, layers: Sequence[int], in_chans: int, constants: Constants) -> None:
        super().__init__()
        self.stem = Stem(in_chans, constants)
        inputs = [WIDTH, *(4 * WIDTH * 2**i for i in range(len(layers)))]
        self.stages = nn.LayerList(
            [Stage(depth, inputs[i], WIDTH * 2**i, 2 if i else 1, constants) for i, depth in enumerate(layers)]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


def backbone(layers: Sequence[int], in_chans: int, constants: str) -> tuple[nn.Layer, int, int]:
    """(layer, its output channels, its stride): the stem alone where ``layers`` is empty, as timm names it."""
    if constants not in CONSTANTS:
        raise PaddleCaitError(f"constants is {constants!r}, expected {' or '.join(CONSTANTS)}")
    chosen = CONSTANTS[constants]
    if not layers:
        return Stem(in_chans, chosen), WIDTH, 4
    return ResNetV2(layers, in_chans, chosen), 4 * WIDTH * 2 ** (len(layers) - 1), 2 ** (len(layers) + 1)
