"""Images to patch tokens by one strided convolution (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from typing import Union

import paddle
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.layers import init

Size = Union[int, tuple[int, int]]


class PatchEmbed(nn.Layer):
    """[B, in_chans, H, W] -> [B, (H/p)*(W/p), dim]; parameter ``proj``.

    ``grid`` is (H/p, W/p). A hybrid's ``backbone`` (layer, its channels, its stride) comes before ``proj``, whose
    patches are then ``patch_size`` of its pixels: p is ``patch_size`` times the stride.
    Raises :class:`PaddleCaitError` for a size that p does not divide.
    """

    def __init__(
        self,
        img_size: Size,
        patch_size: int,
        in_chans: int,
        dim: int,
        backbone: tuple[nn.Layer, int, int] | None = None,
    ) -> None:
        super().__init__()
        layer, channels, stride = backbone or (None, in_chans, 1)
        self.backbone: nn.Layer | None = layer
        step = patch_size * stride
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if height < step or width < step or height % step or width % step:
            raise PaddleCaitError(f"img_size is {height}x{width}, expected multiples of the patch size {step}")
        self.img_size = (height, width)
        self.grid = (height // step, width // step)
        self.num_patches = self.grid[0] * self.grid[1]
        self.stride = (step, step)  # pixels from one patch to the next
        self.proj = init.conv(channels, dim, patch_size, patch_size)
        self._expected = [in_chans, height, width]

    def forward(self, x: Tensor) -> Tensor:
        if paddle.in_dynamic_mode():
            self._check(x)
        if self.backbone is not None:
            x = self.backbone(x)
        return self.proj(x).flatten(2).transpose([0, 2, 1])

    @paddle.jit.not_to_static
    def _check(self, x: Tensor) -> None:
        if list(x.shape[1:]) != self._expected:
            channels, height, width = self._expected
            raise PaddleCaitError(
                f"input is {list(x.shape)}, expected [batch, {channels}, {height}, {width}]: resize the images, or "
                "build the model with img_size=(height, width)"
            )
