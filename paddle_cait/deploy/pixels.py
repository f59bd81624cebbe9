"""What a fused model does before its first block: pixels to patches, with mean and deviation folded in if asked."""

from __future__ import annotations

import copy

import numpy as np
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddle_cait.deploy.fold import array
from paddle_cait.deploy.fused_layers import parameter
from paddle_cait.errors import PaddleCaitError
from paddle_cait.layers.patch_embed import PatchEmbed
from paddle_cait.models.resnetv2 import StdConv


class Pixels:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W], and the normalisation ``(x - mean) / std`` that is still to come.

    ``mean`` and ``std`` count in steps of a uint8, RGB.
    """

    def __init__(self, model: nn.Layer) -> None:
        preset = getattr(model, "preset", None)
        if preset is None:
            raise PaddleCaitError("uint8_input needs a model made by create_model: its preset says mean and deviation")
        self.mean = 255 * np.asarray(preset.preprocess.mean)
        self.std = 255 * np.asarray(preset.preprocess.std)


class Planes(nn.Layer):
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W], the same numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x.astype("float32").transpose([0, 3, 1, 2])


class Normalise(nn.Layer):
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W], normalised, for a model whose first convolution pads.

    It pads with zeros after the normalisation, so the normalisation cannot be folded into it.
    """

    def __init__(self, pixels: Pixels) -> None:
        super().__init__()
        self.planes = Planes()
        self.scale = parameter(self, (1 / pixels.std).reshape(3, 1, 1))
        self.shift = parameter(self, (-pixels.mean / pixels.std).reshape(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.planes(x) * self.scale + self.shift


class Patches(nn.Layer):
    """The convolution of ``PatchEmbed``: input -> [B, N, C]. Its bias is left to the caller, as ``shift`` [C]."""

    def __init__(self, embed: PatchEmbed, pixels: Pixels | None) -> None:
        super().__init__()
        weight, self.shift = array(embed.proj.weight), array(embed.proj.bias)
        self.count, self.dim, self.stride = embed.num_patches, weight.shape[0], embed.proj._stride
        if embed.backbone is not None:
            self.before = nn.Sequential(normalised(pixels), without_standardisation(embed.backbone))
        elif pixels is not None:
            self.before = Planes()
            weight = weight / pixels.std.reshape(1, 3, 1, 1)
            self.shift = self.shift - np.einsum("oihw,i->o", weight, pixels.mean)
        else:
            self.before = nn.Identity()
        self.weight = parameter(self, weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.before(x), self.weight, stride=self.stride)
        return x.reshape([-1, self.dim, self.count]).transpose([0, 2, 1])


def normalised(pixels: Pixels | None) -> nn.Layer:
    """The input as the original model takes it, float32 [B, 3, H, W] normalised, whatever the form it comes in."""
    return nn.Identity() if pixels is None else Normalise(pixels)


class GroupNorm(nn.Layer):
    """``nn.GroupNorm`` as a layer norm over each group, [B, C, h, w] -> the same.

    paddle2onnx 2.1 writes a random epsilon for the original.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.epsilon = norm._num_groups, norm._epsilon
        self.scale = parameter(self, array(norm.weight).reshape(-1, 1, 1))
        self.shift = parameter(self, array(norm.bias).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        size = channels // self.groups * height * width
        groups = F.layer_norm(x.reshape([-1, self.groups, size]), [size], epsilon=self.epsilon)
        return groups.reshape([-1, channels, height, width]) * self.scale + self.shift


def without_standardisation(backbone: nn.Layer) -> nn.Layer:
    """A copy of a hybrid's stem whose convolutions hold the standardised filters."""
    replace = {StdConv: _plain, nn.GroupNorm: GroupNorm}
    fused = copy.deepcopy(backbone)
    for layer in fused.sublayers(include_self=True):
        for name, child in list(layer.named_children()):
            if type(child) in replace:
                setattr(layer, name, replace[type(child)](child))
    return fused


def _plain(conv: StdConv) -> nn.Conv2D:
    out, inputs, *kernel = conv.weight.shape
    start = nn.initializer.Assign(conv.standardised().numpy())
    return nn.Conv2D(inputs, out, kernel, conv._stride, padding="SAME", weight_attr=start, bias_attr=False)
