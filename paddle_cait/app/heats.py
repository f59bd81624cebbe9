"""Maps of every layer for one question, from one forward: what makes the sliders of layers and heads quick.

A layer's whole map is [heads, tokens, tokens], half a gigabyte for the twelve layers of a DINOv2 at 518 pixels. One
question, what the class token or one patch looks at, needs a row of it: each is taken as soon as its layer has run, and
the maps are let go.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import paddle

from paddle_cait.app.choice import Spot, patch_at
from paddle_cait.errors import DataError
from paddle_cait.explain.capture import AttentionMaps, TokenLayout, attention_layers, watch_attention
from paddle_cait.explain.class_token import class_attention, patch_attention
from paddle_cait.explain.windows import window_attention

MAPS_MB = 4096
"""What attention maps may take while a model runs. A visitor chooses the size: whole photographs may be long."""

# method -> the question that it asks of layers
QUESTIONS = {"class-attention": "class", "saliency": "class", "patch-attention": "patch", "windows": "windows"}
# question -> the layers that answer it
_ANSWERED: dict[str, Callable[[TokenLayout], bool]] = {
    "class": lambda layout: layout.class_tokens > 0,
    "patch": lambda layout: layout.kind == "tokens",
    "windows": lambda layout: layout.kind == "windows",
}


def layers_for(model: Any, question: str) -> dict[str, tuple[TokenLayout, int]]:
    """Layer -> (layout, heads) of those that can be asked, in forward order; none where it means nothing."""
    return {
        name: (layout, layer.num_heads)
        for name, (layer, layout) in attention_layers(model).items()
        if _ANSWERED[question](layout)
    }


def ask(
    model: Any, pixels: np.ndarray, question: str, spot: Spot | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(layer -> [heads, grid h, grid w], the model's output [classes or features]) for one image [3, H, W].

    ``spot``: of the patch that looks; None is the middle of the map, or all queries of a window.
    """
    found: dict[str, np.ndarray] = {}

    def see(name: str, layout: TokenLayout, values: paddle.Tensor) -> None:
        maps = AttentionMaps({name: layout}, "")
        maps[name] = values[:, :, : layout.class_tokens] if question == "class" else values
        found[name] = _answer(maps, name, question, spot)[0]

    with paddle.no_grad(), watch_attention(model, see, list(layers_for(model, question))):
        output = model(paddle.to_tensor(pixels[None]))
    return found, output[0].astype("float32").numpy()


def _answer(maps: AttentionMaps, name: str, question: str, spot: Spot | None) -> np.ndarray:
    if question == "class":
        return class_attention(maps, name)
    if question == "windows":
        return window_attention(maps, name, patch_at(spot, maps.layouts[name]))
    return patch_attention(maps, patch_at(spot or (0.5, 0.5), maps.layouts[name]) or (0, 0), name)


def check_size(model: Any, size: tuple[int, int], every_layer: bool) -> None:
    """Refuse a size (height, width) at which the maps, of one layer or of all, would not fit :data:`MAPS_MB`."""
    grown = size[0] * size[1] / (model.img_size[0] * model.img_size[1])
    layers = [layer.num_heads * _entries(layout, grown) * 4 for layer, layout in attention_layers(model).values()]
    needed = (sum(layers) if every_layer else 3 * max(layers)) / 2**20  # scores, softmax and the copy of one layer
    if needed > MAPS_MB:
        raise DataError(
            f"at {size[1]} x {size[0]} pixels the attention maps would take {needed / 1024:.1f} GB, at most "
            f"{MAPS_MB / 1024:g} are allowed here: show the model the centred square, or a less elongated photograph"
        )


def _entries(layout: TokenLayout, grown: float) -> float:
    """Of one head's map, on an image with ``grown`` times the pixels."""
    if layout.kind == "windows":
        return (layout.side * layout.window[0] * layout.window[1] * grown) ** 2
    keys = layout.prefix + layout.grid[0] * layout.grid[1] * grown
    return keys if layout.kind == "class" else keys**2
