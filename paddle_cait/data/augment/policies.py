"""Which operations an image undergoes: RandAugment (timm's form), and DeiT III's three-augment with colour jitter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from paddle_cait.data.augment.operations import INCREASING, Surroundings
from paddle_cait.errors import ConfigError

_LARGEST = 10.0  # the magnitude that is strength 1


@dataclass(frozen=True)
class RandAugment:
    """``layers`` operations drawn with replacement, each applied with probability ``prob`` at a magnitude drawn from
    N(``magnitude``, ``deviation``), cut to 0..``most``. ``PIL.Image -> PIL.Image``.

    The default is DeiT's ``rand-m9-mstd0.5-inc1``.
    """

    magnitude: float = 9.0
    deviation: float = 0.5
    layers: int = 2
    prob: float = 0.5
    most: float = _LARGEST
    around: Surroundings = field(default_factory=Surroundings)

    @classmethod
    def parse(cls, text: str, around: Surroundings) -> RandAugment:
        """timm's notation: ``rand``, then in any order ``mN`` ``nN`` ``pP`` ``mstdS`` ``mmaxN``, and ``inc1``."""
        names = {"m": "magnitude", "n": "layers", "p": "prob", "mstd": "deviation", "mmax": "most"}
        head, *parts = text.split("-")
        values: dict[str, float] = {"magnitude": _LARGEST, "deviation": 0.0}
        increasing = False
        for part in parts:
            match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", part)
            if match and match[1] == "inc":
                increasing = match[2] == "1"
            elif match and match[1] in names:
                values[names[match[1]]] = float(match[2])
            else:
                raise ConfigError(f"aa is {text!r}: {part!r} is none of mN, nN, pP, mstdS, mmaxN, inc1")
        if head != "rand" or not increasing:
            raise ConfigError(f"aa is {text!r}, expected timm's increasing policy such as 'rand-m9-mstd0.5-inc1'")
        layers = int(values.pop("layers", 2))
        return cls(**values, layers=layers, around=around)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        names = list(INCREASING)
        for chosen in rng.integers(len(names), size=self.layers):
            if rng.random() <= self.prob:
                image = INCREASING[names[int(chosen)]](image, self.strength(rng), rng, self.around)
        return image

    def strength(self, rng: np.random.Generator) -> float:
        magnitude = rng.normal(self.magnitude, self.deviation) if self.deviation else self.magnitude
        return min(max(magnitude, 0.0), self.most) / _LARGEST


class ThreeAugment:
    """One of grey, solarized (threshold 128), blurred (radius 0.1 to 2): DeiT III (Touvron et al. 2022)."""

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        choice = int(rng.integers(3))
        if choice == 0:
            return image.convert("L").convert("RGB")
        if choice == 1:
            return ImageOps.solarize(image)
        return image.filter(ImageFilter.GaussianBlur(radius=rng.uniform(0.1, 2.0)))


class ColorJitter:
    """Brightness, contrast and saturation, in random order, each times a factor from 1 - ``amount`` to 1 + ``amount``
    (torchvision's). ``amount``: one number, or one for each of the three."""

    KINDS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

    def __init__(self, amount: float | Sequence[float]) -> None:
        amounts = [float(amount)] * 3 if isinstance(amount, (int, float)) else [float(one) for one in amount]
        if len(amounts) != 3 or min(amounts) < 0:
            raise ConfigError(f"color_jitter is {amount!r}, expected one number of 0 or more, or three")
        self.amounts = amounts

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for i in rng.permutation(3):
            amount = self.amounts[i]
            if amount:
                image = self.KINDS[i](image).enhance(rng.uniform(max(0.0, 1 - amount), 1 + amount))
        return image
