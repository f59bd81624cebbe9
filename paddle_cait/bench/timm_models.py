"""timm's model of a preset, with the weights that ours has. PyTorch is imported in a peer's process alone."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait import runtime
from paddle_cait.bench.work import STATE
from paddle_cait.errors import PaddleCaitError
from paddle_cait.presets import Preset, get_preset
from paddle_cait.weights.layouts import choose_layout

# Our name -> timm's, where they differ; what the names do not say follows from the preset.
_NAMES = (
    (r"^dino_vits(\d+)$", r"vit_small_patch\1_224"),
    (r"^dino_vitb(\d+)$", r"vit_base_patch\1_224"),
    (r"^dinov2_vits14$", "vit_small_patch14_dinov2"),
    (r"^dinov2_vitb14$", "vit_base_patch14_dinov2"),
    (r"^dinov2_vitl14$", "vit_large_patch14_dinov2"),
    (r"^dinov2_vitg14$", "vit_giant_patch14_dinov2"),
    (r"^dinov2_vits14_reg$", "vit_small_patch14_reg4_dinov2"),
    (r"^dinov2_vitb14_reg$", "vit_base_patch14_reg4_dinov2"),
    (r"^dinov2_vitl14_reg$", "vit_large_patch14_reg4_dinov2"),
    (r"^dinov2_vitg14_reg$", "vit_giant_patch14_reg4_dinov2"),
    (r"^(vit_\w+_patch\d+)_\d+$", r"\1_224"),
)

_keep: list[Any] = []  # operators' names live as long as the object that defined them


def import_torch(threads: int) -> Any:
    """PyTorch, ready to import timm.

    It gets the allocator settings that Paddle gets (a quarter more speed for CaiT in eager mode). timm imports
    torchvision, of whose compiled operators nothing is used here: where its build does not fit PyTorch's, their names
    are enough.
    """
    runtime.keep_memory()
    import torch

    torch.set_num_threads(threads)
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # defined already: it fits
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _keep.append(library)
    return torch


def timm_model(spec: dict[str, Any]) -> Any:
    """In float32 and evaluation mode. Raises :class:`PaddleCaitError` where timm has no such model."""
    torch = import_torch(spec["threads"])
    model = build(get_preset(spec["model"], spec["preset_file"])).eval()
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    with np.load(Path(spec["folder"]) / STATE) as file:
        state = in_timms_names(dict(file), wanted)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    return model


def build(preset: Preset) -> Any:
    """timm's model, with its initial weights. Import PyTorch before, with :func:`import_torch`."""
    import timm

    arch = preset.arch
    if timm.is_model(preset.name):
        return timm.create_model(preset.name, num_classes=arch["num_classes"])
    if preset.family == "cait":
        return timm.models.cait.Cait(**arch)
    if preset.family == "gcvit":
        scale = arch.get("init_values")
        return timm.models.gcvit.GlobalContextVit(
            layer_scale=scale, **{key: value for key, value in arch.items() if key != "init_values"}
        )
    for pattern, name in _NAMES:
        if re.match(pattern, preset.name):
            name = re.sub(pattern, name, preset.name)
            return timm.create_model(name, num_classes=arch["num_classes"], img_size=arch["img_size"])
    raise PaddleCaitError(f"timm has no model of this preset ({preset.name})")


def in_timms_names(state: dict[str, np.ndarray], wanted: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The authors' names and shapes -> timm's, ``wanted``, by the layout that reads timm's files the other way."""
    layout = choose_layout(wanted, state.__contains__)
    official = {name: layout.rename(name) for name in wanted}
    strangers = [*(set(official.values()) - set(state)), *(set(state) - set(official.values()))]
    if strangers:
        raise PaddleCaitError(f"timm's model is another one than the preset: {min(strangers)} is in one of them alone")
    found = {name: state[official[name]] for name in wanted}
    table = found.get("pos_embed")
    if (
        table is not None and table.shape[1] == wanted["pos_embed"][1] + 1
    ):  # timm adds its first entry to the class token
        found["cls_token"], found["pos_embed"] = found["cls_token"] + table[:, :1], table[:, 1:]
    return {name: _shaped(value, wanted[name]) for name, value in found.items()}


def _shaped(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A matrix as the 1x1 convolution that timm makes of it; what does not fit is left to PyTorch to refuse."""
    return np.ascontiguousarray(value.reshape(shape) if value.size == np.prod(shape) else value)
