"""The operations of RandAugment on a PIL image, by timm's names and strengths ("increasing": 0 changes nothing).

``strength`` runs from 0 to 1 (timm's magnitude 0 to 10), and ``rng`` decides on the direction. What an operation does
with its argument is Pillow's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_AFFINE = Image.Transform.AFFINE


@dataclass(frozen=True)
class Surroundings:
    """What an operation shows where the image has no pixels, and the filters one is drawn from to move pixels."""

    fill: tuple[int, int, int] = (128, 128, 128)
    resample: tuple[Image.Resampling, ...] = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)

    def draw(self, rng: np.random.Generator) -> Image.Resampling:
        return self.resample[int(rng.integers(len(self.resample)))] if len(self.resample) > 1 else self.resample[0]


Operation = Callable[[Image.Image, float, np.random.Generator, Surroundings], Image.Image]


def _either_way(value: float, rng: np.random.Generator) -> float:
    return -value if rng.random() > 0.5 else value


def autocontrast(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    return ImageOps.equalize(image)


def invert(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    return ImageOps.invert(image)


def rotate(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    """By up to 30 degrees."""
    return image.rotate(_either_way(30 * strength, rng), around.draw(rng), fillcolor=around.fill)


def posterize(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    """4 bits a channel, or fewer, down to none: black, which Pillow 13 no longer makes."""
    bits = 4 - int(4 * strength)
    return ImageOps.posterize(image, bits) if bits else Image.new("RGB", image.size)


def solarize(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    """Invert what is as bright as a threshold, which falls from 256 to 0."""
    return ImageOps.solarize(image, 256 - min(256, int(256 * strength)))


def solarize_add(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    """Brighten what is darker than 128, by up to 110."""
    add = min(128, int(110 * strength))
    return image.point([min(255, level + add) if level < 128 else level for level in range(256)] * 3)


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Away from 1 by up to 0.9, in either direction."""

    def apply(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
        return kind(image).enhance(max(0.1, 1.0 + _either_way(0.9 * strength, rng)))

    return apply


def shear_x(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    return _affine(image, (1, _either_way(0.3 * strength, rng), 0, 0, 1, 0), rng, around)


def shear_y(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    return _affine(image, (1, 0, 0, _either_way(0.3 * strength, rng), 1, 0), rng, around)


def translate_x(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    """By up to 0.45 of the width."""
    return _affine(image, (1, 0, _either_way(0.45 * strength, rng) * image.width, 0, 1, 0), rng, around)


def translate_y(image: Image.Image, strength: float, rng: np.random.Generator, around: Surroundings) -> Image.Image:
    """By up to 0.45 of the height."""
    return _affine(image, (1, 0, 0, 0, 1, _either_way(0.45 * strength, rng) * image.height), rng, around)


def _affine(
    image: Image.Image, matrix: tuple[float, ...], rng: np.random.Generator, around: Surroundings
) -> Image.Image:
    return image.transform(image.size, _AFFINE, matrix, resample=around.draw(rng), fillcolor=around.fill)


INCREASING: dict[str, Operation] = {
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "PosterizeIncreasing": posterize,
    "SolarizeIncreasing": solarize,
    "SolarizeAdd": solarize_add,
    "ColorIncreasing": _enhance(ImageEnhance.Color),
    "ContrastIncreasing": _enhance(ImageEnhance.Contrast),
    "BrightnessIncreasing": _enhance(ImageEnhance.Brightness),
    "SharpnessIncreasing": _enhance(ImageEnhance.Sharpness),
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateXRel": translate_x,
    "TranslateYRel": translate_y,
}
