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

    ``grid`` is (H/p, W/p). Raises :class:`PaddleCaitError` for a size that the patch does not divide.
    """

    def __init__(self, img_size: Size, patch_size: int, in_chans: int, dim: int) -> None:
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if height < patch_size or width < patch_size or height % patch_size or width % patch_size:
            raise PaddleCaitError(f"img_size is {height}x{width}, expected multiples of the patch size {patch_size}")
        self.img_size = (height, width)
        self.grid = (height // patch_size, width // patch_size)
        self.num_patches = self.grid[0] * self.grid[1]
        self.proj = init.conv(in_chans, dim, patch_size, patch_size)
        self._expected = [in_chans, height, width]

    def forward(self, x: Tensor) -> Tensor:
        if paddle.in_dynamic_mode():
            self._check(x)
        return self.proj(x).flatten(2).transpose([0, 2, 1])

    @paddle.jit.not_to_static
    def _check(self, x: Tensor) -> None:
        if list(x.shape[1:]) != self._expected:
            channels, height, width = self._expected
            raise PaddleCaitError(
                f"input is {list(x.shape)}, expected [batch, {channels}, {height}, {width}]: resize the images, or "
                "build the model with img_size=(height, width)"
            )
