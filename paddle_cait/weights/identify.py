"""Which presets a file's tensors fit, told from the shapes that tell presets apart, and why the others do not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paddle_cait.presets import Preset, list_presets
from paddle_cait.weights.canonical import Canonical, canonical
from paddle_cait.weights.layouts import Layout, choose_layout
from paddle_cait.weights.states import State, select_state
from paddle_cait.weights.tensors import Checkpoint

Shapes = Mapping[str, tuple[int, ...]]
Facts = dict[str, Any]

# What a user may set when building a preset, so that a file with another value still fits it.
_ADJUSTABLE = {
    "num_classes": "num_classes",
    "positions": "img_size",
    "window": "img_size",
    "second_head": "head_dist",
}
# A fact's name -> how it is said.
_WORDS = {
    "embed_dim": "width",
    "depth": "blocks",
    "class_blocks": "class-attention blocks",
    "positions": "positions",
    "num_classes": "classes",
    "second_head": "distillation head",
    "patch_size": "patch",
    "tokens": "prefix tokens",
    "scale": "LayerScale",
    "mlp": "MLP",
    "representation": "representation layer",
    "stem": "stem",
    "levels": "levels",
    "window": "window",
}
_KNOWN_NAME = re.compile(
    r"(cls_token|dist_token|register_tokens|pos_embed|patch_embed\.(proj|backbone)\b.*|norm\.\w+|head(_dist)?\.\w+"
    r"|levels\.\d+\.(blocks|downsample|q_global_gen)\..*|patch_embed\.conv_down\..*"
    r"|pre_logits\.fc\.\w+|blocks(_token_only)?\.\d+\.(norm[12]|attn|mlp|gamma_[12]|ls[12])\b.*)"
)


@dataclass(frozen=True)
class Fit:
    """A file beside a preset. ``differs``: fact -> (the file's, the preset's); empty where it fits."""

    preset: Preset
    differs: dict[str, tuple[Any, Any]]

    @property
    def options(self) -> str:
        """What to set so that it fits, ``""`` if nothing need be set; only of use where :attr:`adjustable`."""
        return ", ".join(f"{_ADJUSTABLE[fact]}={self._value(fact)}" for fact in self.differs)

    @property
    def adjustable(self) -> bool:
        """Does the file fit with another number of classes or another image size?"""
        return set(self.differs) <= set(_ADJUSTABLE) and all(self._value(fact) is not None for fact in self.differs)

    def _value(self, fact: str) -> Any:
        found = self.differs[fact][0]
        if fact == "window":
            return found * 32 or None  # GCViT's windows are a 32nd of the image
        if fact != "positions":
            return found
        side = round(found**0.5)
        return side * _step(self.preset.arch) if side * side == found else None

    def __str__(self) -> str:
        return "; ".join(
            f"{_WORDS[fact]}: {_say(has)}, expected {_say(want)}" for fact, (has, want) in self.differs.items()
        )


def facts_of(shapes: Shapes) -> Facts:
    """What a file's shapes say of its architecture, whichever way its matrices lie."""

    def size(name: str, axis: int = 0) -> int:
        shape = shapes.get(name, ())
        return shape[axis] if len(shape) > axis else 0

    tokens = tuple(size(name, 1) for name in ("cls_token", "dist_token", "register_tokens"))
    table_prefix = _table_prefix(shapes)
    gated = any(name.endswith(".mlp.w12.bias") for name in shapes)
    levels = _count(shapes, r"levels\.(\d+)\.")
    first = "levels.0.blocks.0." if levels else "blocks.0."
    return {
        "embed_dim": size("norm.weight"),
        "depth": _count(shapes, r"blocks\.(\d+)\."),
        "class_blocks": _count(shapes, r"blocks_token_only\.(\d+)\."),
        "positions": max(size("pos_embed", 1) - table_prefix, 0),
        "num_classes": size("head.bias"),
        "second_head": "head_dist.bias" in shapes,
        "patch_size": size("patch_embed.proj.weight", 3),
        "tokens": tokens,
        "scale": next((s for s in ("gamma_1", "ls1.gamma", "gamma1") if first + s in shapes), None),
        "mlp": ("swiglu" if gated else "mlp", size(f"{first}mlp.{'w12' if gated else 'fc1'}.bias")),
        "representation": size("pre_logits.fc.bias"),
        "stem": _stem(shapes),
        "levels": tuple(_count(shapes, rf"levels\.{level}\.blocks\.(\d+)\.") for level in range(levels)),
        "window": (math.isqrt(size("levels.0.blocks.0.attn.relative_position_bias_table")) + 1) // 2,
    }


def facts_of_preset(preset: Preset) -> Facts:
    """The same facts as a preset's arch gives them."""
    arch = preset.arch
    if preset.family in _OWN_FACTS:
        return _OWN_FACTS[preset.family](arch)
    dim, hidden = arch["embed_dim"], int(arch["embed_dim"] * arch["mlp_ratio"])
    gated = arch.get("ffn") == "swiglu"
    side = arch["img_size"] // _step(arch)
    stem = arch.get("backbone_layers")
    return {
        "embed_dim": dim,
        "depth": arch["depth"],
        "class_blocks": arch.get("depth_token_only", 0),
        "positions": side * side,
        "num_classes": arch["num_classes"],
        "second_head": bool(arch.get("distilled") and arch.get("head_dist", True) and arch["num_classes"]),
        "patch_size": arch["patch_size"],
        "tokens": (1, int(arch.get("distilled", False)), arch.get("num_register_tokens", 0)),
        "scale": {"cait": "gamma_1", "deit3": "gamma_1", "dinov2": "ls1.gamma"}.get(preset.family),
        "mlp": ("swiglu", (hidden * 2 // 3 + 7) // 8 * 16) if gated else ("mlp", hidden),
        "representation": arch.get("representation_size", 0),
        "stem": None if stem is None else tuple(stem),
        "levels": (),
        "window": 0,
    }


def _facts_of_gcvit(arch: dict[str, Any]) -> Facts:
    return {
        **facts_of({}),  # nothing else that a file could have
        "embed_dim": 8 * arch["embed_dim"],
        "num_classes": arch["num_classes"],
        "patch_size": 3,
        "scale": "gamma1" if "init_values" in arch else None,
        "mlp": ("mlp", int(arch["embed_dim"] * arch["mlp_ratio"])),
        "levels": tuple(arch["depths"]),
        "window": math.ceil(arch["img_size"] / 32),
    }


_OWN_FACTS = {"gcvit": _facts_of_gcvit}  # families that a ViT's facts do not describe


def fits(shapes: Shapes, presets: list[Preset] | None = None) -> list[Fit]:
    """Every preset beside these shapes, the best fitting first; presets without any tensor in common come last."""
    facts = facts_of(shapes)
    found = []
    for preset in list_presets() if presets is None else presets:
        wanted = facts_of_preset(preset)
        found.append(Fit(preset, {key: (facts[key], wanted[key]) for key in facts if facts[key] != wanted[key]}))
    return sorted(found, key=lambda fit: (len(fit.differs), not fit.adjustable))


def advice(shapes: Shapes, meant: Preset | None) -> str:
    """`` It fits NAME.`` for an error message, or ``""`` where no preset is near, or ``meant`` has these shapes."""
    every = list_presets()
    ordered = fits(shapes, every if meant is None or meant in every else [meant, *every])
    if meant is not None:
        if any(fit.preset == meant and not fit.differs for fit in ordered):
            return ""
        ordered.sort(key=lambda fit: (fit.preset.name != meant.name, fit.preset.family != meant.family))
    exact = [fit.preset for fit in ordered if not fit.differs]
    if exact:
        return f" It fits {' or '.join(_names(exact)[:4])}."
    near = [fit for fit in ordered if len(fit.differs) == 1 and fit.adjustable]
    return f" It fits {near[0].preset.name} built with {near[0].options}." if near else ""


def in_canonical_names(checkpoint: Checkpoint, entry: str | None = None) -> tuple[State, Layout, Canonical]:
    """A file read without knowing its model: the set of weights, its layout, the tensors under our names."""
    state = select_state(checkpoint, entry)
    layout = choose_layout(state.tensors, lambda name: _KNOWN_NAME.fullmatch(name) is not None)
    shapes = {layout.rename(key): ref.shape for key, ref in state.tensors.items()}
    fused = {}  # [in, out] of the matrices whose bias tells which side is out
    for name, shape in shapes.items():
        out = next(iter(shapes.get(name.replace(".weight", ".bias"), ())), 0)
        if name.endswith((".qkv.weight", ".fc1.weight")) and len(shape) == 2 and out in shape:
            fused[name] = (shape[0] if shape[1] == out else shape[1], out)
    return state, layout, canonical(state, layout, fused, fused, checkpoint)


def _names(presets: list[Preset]) -> list[str]:
    """``NAME`` where all its tags would fit, else ``NAME.TAG``; one tag of each name is enough."""
    every = list_presets()
    names: dict[str, str] = {}
    for preset in presets:
        same = facts_of_preset(preset)
        alone = all(facts_of_preset(p) == same for p in every if p.name == preset.name)
        names.setdefault(preset.name, preset.name if alone or preset == _first(preset, every) else preset.full_name)
    return list(names.values())


def _first(preset: Preset, every: list[Preset]) -> Preset:
    return next(p for p in every if p.name == preset.name)


def _step(arch: dict[str, Any]) -> int:
    """Pixels from one patch to the next."""
    stem = arch.get("backbone_layers")
    return int(arch["patch_size"] * (1 if stem is None else 2 ** (len(stem) + 1 if stem else 2)))


def _table_prefix(shapes: Shapes) -> int:
    """Entries of the position table that belong to tokens: DeiT III and CaiT give the class token none."""
    if "blocks.0.gamma_1" in shapes:
        return 0
    return 2 if "dist_token" in shapes else 1


def _count(shapes: Shapes, pattern: str) -> int:
    found = [int(match.group(1)) for match in (re.match(pattern, str(name)) for name in shapes) if match]
    return max(found, default=-1) + 1


def _stem(shapes: Shapes) -> tuple[int, ...] | None:
    prefix = r"patch_embed\.backbone\."
    if not any(re.match(prefix, name) for name in shapes):
        return None
    stages = _count(shapes, prefix + r"stages\.(\d+)\.")
    return tuple(_count(shapes, prefix + rf"stages\.{stage}\.blocks\.(\d+)\.") for stage in range(stages))


def _say(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value) or "stem alone"
    if isinstance(value, bool):
        return "yes" if value else "none"
    return str(value or "none")
