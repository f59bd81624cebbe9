"""How much arithmetic a model is: the multiply-adds of its Linear layers, convolutions and products of activations.

Published GMACs differ in what they count. timm's tables have these and 5 for each number of a layer norm: 17.58 for
vit_base_patch16_224, 2.53 for cait_xxs24_224, 1.26 for deit_tiny_patch16_224, where this gives 17.56, 2.52 and 1.25.
Counters that see layers alone miss the products of attention: 16.87 and 1.08. CaiT's mixing of heads counts here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
from paddle import nn


def count(model: nn.Layer, image: np.ndarray) -> dict[str, int]:
    """Multiply-adds of one image [1, 3, H, W] by kind: ``linear``, ``convolution``, ``product``.

    The model is counted as it was published, before anything is folded.
    """
    found = {"linear": 0, "convolution": 0, "product": 0}
    model.eval()
    with paddle.no_grad(), _counting(model, found):
        model(paddle.to_tensor(image))
    return found


@contextlib.contextmanager
def _counting(model: nn.Layer, found: dict[str, int]) -> Iterator[None]:
    def linear(layer: Any, inputs: Any, output: Any) -> None:
        found["linear"] += _size(output) * layer.weight.shape[0]

    def convolution(layer: Any, inputs: Any, output: Any) -> None:
        found["convolution"] += _size(output) * _product(layer.weight.shape[1:])

    def product(x: Any, y: Any, transpose_x: bool = False, transpose_y: bool = False, name: Any = None) -> Any:
        output = matmul(x, y, transpose_x, transpose_y, name)
        found["product"] += _size(output) * x.shape[-2 if transpose_x else -1]
        return output

    hooks = []
    for layer in model.sublayers():
        if isinstance(layer, nn.Linear):
            hooks.append(layer.register_forward_post_hook(linear))
        elif isinstance(layer, nn.Conv2D):
            hooks.append(layer.register_forward_post_hook(convolution))
    matmul, paddle.matmul = paddle.matmul, product
    try:
        yield
    finally:
        paddle.matmul = matmul
        for hook in hooks:
            hook.remove()


def _size(tensor: Any) -> int:
    return _product(tensor.shape)


def _product(sides: Any) -> int:
    return int(np.prod([int(side) for side in sides], dtype=np.int64))
