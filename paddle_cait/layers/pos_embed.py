"""Position tables at another image size."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F


def resample_bicubic(table: np.ndarray, source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """A table [1, source h*w, C] at another grid -> [1, target h*w, C], float32.

    DeiT's and CaiT's rule (facebookresearch/deit main.py): bicubic by target size, half-pixel centres, no antialias.
    """
    channels = table.shape[-1]
    with paddle.no_grad():
        image = paddle.to_tensor(np.asarray(table, np.float32), place=paddle.CPUPlace())
        image = image.reshape([1, *source, channels]).transpose([0, 3, 1, 2])
        image = F.interpolate(image, size=list(target), mode="bicubic", align_corners=False)
        return image.flatten(2).transpose([0, 2, 1]).numpy()
