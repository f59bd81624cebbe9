"""Which parameters share a learning rate and a weight decay, by the field's rules (timm's, from BEiT and DeiT).

- Vectors and single numbers (biases, norms, LayerScale) do not decay, nor do tables and tokens of their own
  (`NO_DECAY`).
- Layer-wise decay: a layer learns at ``layer_decay`` to the power of its distance from the classifier. The layers are
  the stem (patches, positions, tokens), each block, and the classifier; the final norm goes with the last block. CaiT's
  class blocks share the steps of its last patch blocks; a level of GCViT is one step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NO_DECAY = frozenset(
    ("pos_embed", "cls_token", "dist_token", "register_tokens", "mask_token", "relative_position_bias_table")
)
_STEM = re.compile(r"(cls_token|dist_token|register_tokens|mask_token|pos_embed|patch_embed)\b")
_BLOCK = re.compile(r"(blocks|blocks_token_only|levels)\.(\d+)\.")


@dataclass(frozen=True)
class Group:
    """``scale`` times the learning rate, and this weight decay, for the parameters of these ``names``."""

    layer: int
    scale: float
    decay: float
    names: tuple[str, ...]


def decays(name: str, shape: Iterable[int]) -> bool:
    """Whether weight decay applies to a parameter."""
    return len(tuple(shape)) > 1 and name.rpartition(".")[2] not in NO_DECAY


def layers(names: Iterable[str]) -> dict[str, int]:
    """Each parameter's layer: 0 is the stem, the largest number the classifier's."""
    names = list(names)
    counts = dict.fromkeys(("blocks", "blocks_token_only", "levels"), 0)
    for name in names:
        if match := _BLOCK.match(name):
            counts[match[1]] = max(counts[match[1]], int(match[2]) + 1)
    depth = counts["blocks"] or counts["levels"]
    return {name: _layer(name, depth, depth - counts["blocks_token_only"]) for name in names}


def _layer(name: str, depth: int, first_shared: int) -> int:
    if _STEM.match(name):
        return 0
    match = _BLOCK.match(name)
    if match and match[1] == "blocks_token_only":
        return first_shared + int(match[2]) + 1
    if match and name.startswith(f"levels.{match[2]}.downsample."):
        return int(match[2]) + 2  # what prepares the map of the next level belongs to that
    if match:
        return int(match[2]) + 1
    return depth if name.startswith("norm.") else depth + 1


def parameter_groups(
    shapes: dict[str, tuple[int, ...]], weight_decay: float, layer_decay: float | None = None
) -> list[Group]:
    """The groups of the parameters named in ``shapes``, from the stem to the classifier; each parameter is in one."""
    layer_of = layers(shapes) if layer_decay is not None else dict.fromkeys(shapes, 0)
    last = max(layer_of.values(), default=0)
    found: dict[tuple[int, bool], list[str]] = {}
    for name, shape in shapes.items():
        found.setdefault((layer_of[name], decays(name, shape)), []).append(name)
    return [
        Group(layer, (layer_decay or 1.0) ** (last - layer), weight_decay if decay else 0.0, tuple(names))
        for (layer, decay), names in sorted(found.items())
    ]
