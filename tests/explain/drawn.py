"""Small models whose attention is far from uniform, for the tests of explanations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
from helpers import draw_state, npz, official_shapes, preset
from paddle import nn

import paddle_cait as pc


def model(folder: Path, family: str, img_size: Any = None, **changes: Any) -> nn.Layer:
    """A shrunk model in evaluation mode, its weights drawn and read by the real loader."""
    chosen = preset(folder, f"tiny_{family}", family, **changes)
    built = pc.create_model(
        chosen, npz(folder / f"{family}.npz", draw_state(official_shapes(chosen))), img_size=img_size
    )
    built.eval()
    return built


def batch(built: nn.Layer, count: int = 3) -> paddle.Tensor:
    """[count, 3, H, W], no two images alike."""
    return paddle.to_tensor(np.random.RandomState(0).standard_normal((count, 3, *built.img_size)).astype(np.float32))


def capture(built: nn.Layer, count: int = 3, **kwargs: Any) -> Any:
    with paddle.no_grad(), pc.capture_attention(built, **kwargs) as maps:
        built(batch(built, count))
    return maps
