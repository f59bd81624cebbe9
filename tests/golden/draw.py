"""Weights drawn so that a mistake shows: every tensor matters, LayerScale near 0.2, biases and norms away from 0 and 1.

Deterministic in numpy, so that the oracle and the port draw the same ones from names and PyTorch shapes alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

# A CaiT of every kind of layer, odd on purpose: heads, widths and depths that no two dimensions share.
SHRUNK = {
    "img_size": 48,
    "patch_size": 16,
    "num_classes": 7,
    "embed_dim": 40,
    "depth": 3,
    "num_heads": 5,
    "mlp_ratio": 3.0,
    "depth_token_only": 2,
    "mlp_ratio_token_only": 2.0,
    "init_values": 1.0e-5,
}


# The same for the ViT line; each family adds its own to it.
SHRUNK_VIT = {
    "img_size": 48,
    "patch_size": 16,
    "num_classes": 7,
    "embed_dim": 40,
    "depth": 3,
    "num_heads": 5,
    "mlp_ratio": 3.0,
}
SHRUNK_FAMILIES = {
    "vit": {},
    "vit_hybrid": {"patch_size": 1, "backbone_layers": [1, 2], "constants": "flax"},
    "deit": {},
    "deit3": {"init_values": 1.0e-4},
    "dino": {"num_classes": 0},
    "dinov2": {"num_classes": 0, "init_values": 1.0},
}
# GCViT has widths and heads by level.
SHRUNK_GCVIT = {
    "img_size": 64,
    "num_classes": 7,
    "embed_dim": 32,
    "depths": [2, 3, 2, 2],
    "num_heads": [2, 4, 8, 16],
    "mlp_ratio": 2.0,
}


def draw(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """One tensor, float32, in PyTorch's orientation."""
    rng = np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode()))
    leaf = name.rpartition(".")[2]
    if leaf.startswith(("gamma", "lambda")):
        mean, std = 0.2, 0.05
    elif leaf in ("pos_embed", "position_embeddings") or leaf.endswith(("_token", "_tokens")):
        mean, std = 0.0, 0.3
    elif leaf == "weight" and len(shape) == 1:
        mean, std = 1.0, 0.2  # norms
    elif leaf == "bias":
        mean, std = 0.0, 0.1
    else:
        mean, std = 0.0, float(np.prod(shape[1:])) ** -0.5
    return (mean + std * rng.standard_normal(shape)).astype(np.float32)


def draw_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """A whole state dict from PyTorch names and shapes."""
    return {name: draw(name, tuple(shape), seed) for name, shape in shapes.items()}


def images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """[count, 3, size, size] float32, roughly like normalised photographs."""
    return np.random.RandomState(seed).standard_normal((count, 3, size, size)).astype(np.float32)
