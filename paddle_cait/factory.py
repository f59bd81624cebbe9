"""Preset name -> ``nn.Layer``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from paddle_cait.errors import PaddleCaitError
from paddle_cait.files import PathLike
from paddle_cait.presets import Preset, get_preset

if TYPE_CHECKING:
    from paddle import nn

# family -> (module, class); imported when first built, so that naming a model never loads paddle.
FAMILIES = {
    "cait": ("paddle_cait.models.cait", "CaiT"),
    "deit": ("paddle_cait.models.deit", "DeiT"),
    "deit3": ("paddle_cait.models.deit", "DeiT3"),
    "dino": ("paddle_cait.models.dino", "Dino"),
    "dinov2": ("paddle_cait.models.dino", "DinoV2"),
    "gcvit": ("paddle_cait.models.gcvit", "GCViT"),
    "vit": ("paddle_cait.models.vit", "VisionTransformer"),
    "vit_hybrid": ("paddle_cait.models.vit", "VisionTransformer"),
}


def create_model(
    model: str | Preset,
    weights: PathLike | None = None,
    *,
    num_classes: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    preset_file: PathLike | None = None,
    entry: str | None = None,
    **overrides: Any,
) -> nn.Layer:
    """Build a model and, if asked, load its weights.

    Args:
        model: a preset's name (``cait_xxs24_224``, with or without ``.tag``) or a :class:`Preset`.
        weights: any supported checkpoint file; see :func:`paddle_cait.load_weights`. The word ``official`` is the
            authors' file, downloaded once (see `paddle-cait download --help`). None keeps the initial weights.
        num_classes: another head; the file's classifier is left out. 0 gives features [B, C]. Default: the preset's, or
            what a fine-tuned checkpoint says of itself.
        img_size: another input size in pixels; position tables are resampled by the family's rule. Default: as above.
        preset_file: YAML file of your own presets, where ``model`` is defined.
        entry: which set of weights of a training checkpoint (``model_ema``, ...).
        overrides: further keywords of the model class, such as ``drop_path_rate=0.1``.

    The model carries ``.preset`` (the :class:`Preset`) and, after loading, ``.load_report``.
    Raises :class:`PresetError` for an unknown name, :class:`WeightsError` for a file that is not to be had or does
    not fit, :class:`PaddleCaitError` for keywords and sizes that the model class does not take.
    """
    preset = model if isinstance(model, Preset) else get_preset(model, preset_file)
    if weights == "official":
        from paddle_cait.weights.cache import official_weights

        weights = official_weights(preset).path
    elif weights is not None and None in (num_classes, img_size):
        from paddle_cait.weights.trained import read_trained

        trained = read_trained(weights)
        if trained is not None:
            num_classes = trained.num_classes if num_classes is None else num_classes
            img_size = trained.img_size if img_size is None else img_size
    module, name = FAMILIES[preset.family]
    arch = {**preset.arch, **overrides}
    if num_classes is not None:
        arch["num_classes"] = num_classes
        if num_classes != preset.num_classes and "representation_size" not in overrides:
            arch.pop("representation_size", None)  # a new classifier sits on the class token, as in Google's code
    if img_size is not None:
        arch["img_size"] = img_size
    try:
        layer = getattr(importlib.import_module(module), name)(**arch)
    except TypeError as error:
        raise PaddleCaitError(f"{preset.full_name}: {error}") from error
    layer.preset = preset
    if weights is not None:
        from paddle_cait.weights.apply import load_weights

        load_weights(layer, weights, entry=entry)
    return layer
