"""Photograph -> training input: a random part, mirrored or not, changed by a policy, normalised, erased in parts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
from PIL import Image

from paddle_cait.data.augment.crop import Flip, RandomResizedCrop, SimpleRandomCrop
from paddle_cait.data.augment.erasing import RandomErasing
from paddle_cait.data.augment.operations import Surroundings
from paddle_cait.data.augment.policies import ColorJitter, RandAugment, ThreeAugment
from paddle_cait.data.transforms import PIL_FILTERS, eval_transform, normalise
from paddle_cait.errors import ConfigError
from paddle_cait.presets import Preprocess

Step = Callable[[Image.Image, np.random.Generator], Image.Image]

CROPS = ("rrc", "simple")


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image, by timm's and DeiT's names; the defaults are DeiT's recipe.

    Args:
        crop: ``rrc``, a part of random area and shape, or ``simple``, DeiT III's.
        scale: of ``rrc``: bounds of the part's area over the image's.
        ratio: of ``rrc``: bounds of the part's width over its height.
        hflip: probability of mirroring left to right.
        aa: timm's notation for RandAugment, ``three`` for DeiT III's three-augment, or ``none``.
        color_jitter: brightness, contrast and saturation change by a factor of up to 1 +- this, after three-augment or
            ``none``; RandAugment changes colours itself.
        train_interpolation: a filter of Pillow, or ``random`` for bilinear or bicubic.
        reprob: probability of random erasing.
        remode: what fills the erased: ``pixel``, noise; ``rand``, a random colour; ``const``, the mean colour.
        recount: how many rectangles share the erased area.

    :class:`ConfigError` is raised for other words and numbers when a transform is made of it.
    """

    crop: str = "rrc"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    aa: str = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.3
    train_interpolation: str = "bicubic"
    reprob: float = 0.25
    remode: str = "pixel"
    recount: int = 1


class TrainTransform:
    """``(PIL.Image, numpy Generator) -> float32 [3, img_size, img_size]``, as ``augmentation`` says, normalised with
    the mean and deviation of ``preprocess``. The same generator gives the same pixels."""

    def __init__(self, preprocess: Preprocess, augmentation: Augmentation) -> None:
        self.preprocess, self.augmentation = preprocess, augmentation
        self._steps = _steps(preprocess, augmentation)
        self._erasing = RandomErasing(augmentation.reprob, augmentation.remode, augmentation.recount)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        image = image if image.mode == "RGB" else image.convert("RGB")
        for step in self._steps:
            image = step(image, rng)
        return self._erasing(normalise(np.asarray(image), self.preprocess), rng)


def train_transform(model_or_preset: Any, augmentation: Augmentation, **overrides: Any) -> TrainTransform:
    """For a preset name, a ``Preset``, a ``Preprocess`` or a model, at the model's own size.

    ``overrides`` are fields of ``Preprocess``.
    """
    return TrainTransform(eval_transform(model_or_preset, **overrides).preprocess, augmentation)


def _steps(preprocess: Preprocess, wanted: Augmentation) -> list[Step]:
    filters = _filters(wanted.train_interpolation)
    size, first = preprocess.img_size, filters[-1]
    if wanted.crop not in CROPS:
        raise ConfigError(f"crop is {wanted.crop!r}, expected {' or '.join(CROPS)}")
    if not 0 < wanted.scale[0] <= wanted.scale[1] <= 1 or not 0 < wanted.ratio[0] <= wanted.ratio[1]:
        raise ConfigError(f"scale is {list(wanted.scale)} and ratio {list(wanted.ratio)}, expected rising bounds")
    if not 0 <= wanted.hflip <= 1 or not wanted.color_jitter >= 0:
        raise ConfigError(f"hflip is {wanted.hflip}, expected 0..1; color_jitter {wanted.color_jitter}, 0 or more")
    steps: list[Step] = []
    if wanted.crop == "simple":
        steps.append(SimpleRandomCrop(size, first))
    else:
        steps.append(RandomResizedCrop(size, filters, wanted.scale, wanted.ratio))
    if wanted.hflip:
        steps.append(Flip(wanted.hflip))
    fill = tuple(min(255, round(255 * level)) for level in preprocess.mean)
    if wanted.aa.startswith("rand"):
        return [*steps, RandAugment.parse(wanted.aa, Surroundings(fill, filters))]  # type: ignore[arg-type]
    if wanted.aa not in ("three", "none"):
        raise ConfigError(f"aa is {wanted.aa!r}, expected rand-m9-mstd0.5-inc1 and the like, three, or none")
    if wanted.aa == "three":
        steps.append(ThreeAugment())
    return [*steps, ColorJitter(wanted.color_jitter)] if wanted.color_jitter else steps


def _filters(name: str) -> tuple[Image.Resampling, ...]:
    if name == "random":
        return Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
    if name not in PIL_FILTERS:
        raise ConfigError(f"train_interpolation is {name!r}, expected random or one of {', '.join(PIL_FILTERS)}")
    return (PIL_FILTERS[name],)


def describe(augmentation: Augmentation) -> str:
    """One line for logs."""
    return ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(augmentation).items())
