"""Google's .npz files at any size: their names and shapes, and weights drawn so that a mistake shows.

Two numberings of modules exist: the released ViT files' (Flax before linen, all modules of a block counted together)
and later ones' (each kind counted for itself).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

NUMBERINGS = {"released": ("LayerNorm_2", "MultiHeadDotProductAttention_1", "MlpBlock_3")}
NUMBERINGS["linen"] = ("LayerNorm_1", "MultiHeadDotProductAttention_0", "MlpBlock_0")

Shapes = dict[str, tuple[int, ...]]


def google_shapes(arch: Mapping[str, Any], numbering: str = "released") -> Shapes:
    """Name -> shape of the file of a ViT or hybrid with this ``arch`` (a preset's)."""
    dim, heads, classes = arch["embed_dim"], arch["num_heads"], arch["num_classes"]
    hidden, layers = int(dim * arch["mlp_ratio"]), arch.get("backbone_layers")
    step, width = arch["patch_size"], 3
    shapes: Shapes = {"cls": (1, 1, dim)}
    if layers is not None:
        shapes.update(_resnet(layers))
        width = 256 * 2 ** (len(layers) - 1) if layers else 64
        step *= 2 ** (len(layers) + 1) if layers else 4
    shapes.update(_dense("embedding", (arch["patch_size"], arch["patch_size"], width, dim), (dim,)))
    tokens = 1 + (arch["img_size"] // step) ** 2
    shapes["Transformer/posembed_input/pos_embedding"] = (1, tokens, dim)
    norm2, attention, mlp = NUMBERINGS[numbering]
    for i in range(arch["depth"]):
        at = f"Transformer/encoderblock_{i}"
        shapes.update({**_norm(f"{at}/LayerNorm_0", (dim,)), **_norm(f"{at}/{norm2}", (dim,))})
        for part in ("query", "key", "value"):
            shapes.update(_dense(f"{at}/{attention}/{part}", (dim, heads, dim // heads), (heads, dim // heads)))
        shapes.update(_dense(f"{at}/{attention}/out", (heads, dim // heads, dim), (dim,)))
        shapes.update(_dense(f"{at}/{mlp}/Dense_0", (dim, hidden), (hidden,)))
        shapes.update(_dense(f"{at}/{mlp}/Dense_1", (hidden, dim), (dim,)))
    shapes.update(_norm("Transformer/encoder_norm", (dim,)))
    width = arch.get("representation_size") or dim
    if arch.get("representation_size"):
        shapes.update(_dense("pre_logits", (dim, width), (width,)))
    shapes.update(_dense("head", (width, classes), (classes,)))
    return shapes


def draw_google(shapes: Shapes, seed: int = 0) -> dict[str, np.ndarray]:
    """Float32 values; the two numberings of one model get the same."""
    return {name: _draw(_numbered_alike(name), shape, seed) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode()))
    leaf = name.rpartition("/")[2]
    if leaf == "kernel":
        fan_in = np.prod(shape) / (
            np.prod(shape[1:]) if "/query/" in name or "/key/" in name or "/value/" in name else shape[-1]
        )
        mean, std = 0.0, float(fan_in) ** -0.5
    else:
        mean, std = {"scale": (1.0, 0.2), "bias": (0.0, 0.1)}.get(leaf, (0.0, 0.3))
    if "/gn3/" in name:  # ends a residual branch and starts at 0: near 1, float32 itself is 4e-5 off in a deep stem
        mean, std = 0.3 * mean, 0.3 * std
    return (mean + std * rng.standard_normal(shape)).astype(np.float32)


def _numbered_alike(name: str) -> str:
    for released, linen in zip(NUMBERINGS["released"], NUMBERINGS["linen"]):
        name = name.replace(f"/{linen}/", f"/{released}/")
    return name


def _dense(name: str, kernel: tuple[int, ...], bias: tuple[int, ...]) -> Shapes:
    return {f"{name}/kernel": kernel, f"{name}/bias": bias}


def _norm(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}/scale": shape, f"{name}/bias": shape}


def _resnet(layers: tuple[int, ...]) -> Shapes:
    """Group norms are stored with four axes."""
    shapes: Shapes = {"conv_root/kernel": (7, 7, 3, 64), **_norm("gn_root", (1, 1, 1, 64))}
    inputs = 64
    for stage, depth in enumerate(layers):
        width = 64 * 2**stage
        for unit in range(depth):
            at = f"block{stage + 1}/unit{unit + 1}"
            kernels = {"1": (1, 1, inputs, width), "2": (3, 3, width, width), "3": (1, 1, width, 4 * width)}
            if unit == 0:
                kernels["_proj"] = (1, 1, inputs, 4 * width)
            for suffix, kernel in kernels.items():
                shapes[f"{at}/conv{suffix}/kernel"] = kernel
                shapes.update(_norm(f"{at}/gn{suffix}", (1, 1, 1, kernel[-1])))
            inputs = 4 * width
    return shapes
