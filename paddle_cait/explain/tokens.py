"""From maps over tokens to maps over patches: what every method needs and none should do in its own way."""

from __future__ import annotations

from typing import Any

import numpy as np

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.capture import AttentionMaps, choose
from paddle_cait.layers.token_layout import TokenLayout


def array(values: Any) -> np.ndarray:
    """float64, of a Paddle tensor of any precision or an array."""
    if not isinstance(values, np.ndarray):
        values = values.detach().astype("float32").numpy()  # numpy has no bfloat16
    found: np.ndarray = values.astype(np.float64)
    return found


def one_layer(maps: AttentionMaps, layer: str | int) -> tuple[str, np.ndarray, TokenLayout]:
    """Name, float64 map and layout of the layer that ``layer`` means among the captured ones."""
    if not maps:
        raise PaddleCaitError("no attention was captured: run the model inside the capture_attention block")
    names = choose(list(maps), layer)
    if len(names) > 1:
        raise PaddleCaitError(f"layer {layer!r} means {len(names)} layers, expected one: {', '.join(names)}")
    return names[0], array(maps[names[0]]), maps.layouts[names[0]]


def asking_tokens(layout: TokenLayout, token: int | None, name: str) -> list[int]:
    """Which queries stand for the image: those of the class tokens, or the one that ``token`` names."""
    if not layout.class_tokens:
        raise PaddleCaitError(f"{name}: has no class token among its tokens")
    if token is None:
        return list(range(layout.class_tokens))
    if not 0 <= token < layout.class_tokens:
        raise PaddleCaitError(
            f"token is {token}, expected 0 (class)" + (", 1 (distillation)" if layout.class_tokens > 1 else "")
        )
    return [token]


def on_grid(values: np.ndarray, layout: TokenLayout) -> np.ndarray:
    """[..., prefix + patches] -> [..., grid h, grid w]."""
    return values[..., layout.prefix :].reshape(*values.shape[:-1], *layout.grid)


def refuse_windows(maps: AttentionMaps, method: str, why: str) -> None:
    """GCViT's maps are of windows, and most methods mean nothing there."""
    if any(layout.kind == "windows" for layout in maps.layouts.values()):
        raise PaddleCaitError(f"{maps.model}: {method} means nothing here: {why}")
