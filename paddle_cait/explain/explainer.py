"""Photographs to pictures, by a model that is built for the size that they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Callable

import numpy as np
import paddle
from paddle import nn
from PIL import Image

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.capture import attention_layers
from paddle_cait.explain.catalogue import OF_WEIGHTS
from paddle_cait.explain.methods import Options, Picture, explain_images, explain_weights
from paddle_cait.explain.photographs import FITS, View, seen_part, view, whole_size
from paddle_cait.layers.token_layout import Pair

if TYPE_CHECKING:
    from paddle_cait.presets import Preprocess

_KEPT = 2  # models of different sizes at a time: photographs lie or stand


class Explainer:
    """
    Args:
        build: (height, width), or None for the model's own size, to a model with its weights.
        preprocess: how the model's images are prepared.
        class_names: in the order of the labels, for titles.
    """

    def __init__(
        self,
        build: Callable[[Pair | None], nn.Layer],
        preprocess: Preprocess,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self._build, self.preprocess, self.class_names = build, preprocess, class_names
        self.own = self._evaluating(None)
        self.img_size: Pair = self.own.img_size
        *_, (_, last) = attention_layers(self.own).values()
        self.step: Pair = last.stride
        self._models: dict[Pair, nn.Layer] = {}

    def size(self, image: Pair, fit: str) -> Pair:
        """(height, width) of the model that sees a photograph of ``image`` = (width, height) pixels."""
        if fit not in FITS:
            raise PaddleCaitError(f"fit is {fit!r}, expected {' or '.join(FITS)}")
        return self.img_size if fit == "crop" else whole_size(image, min(self.img_size), self.step)

    def view(self, image: Image.Image, fit: str = "crop") -> View:
        """What a model of :meth:`size` sees of ``image``, and what is shown of it."""
        return view(image, self.preprocess, self.size(image.size, fit), fit)

    def seen(self, image: Pair, fit: str = "crop") -> tuple[int, int, int, int]:
        """(top, left, height, width) of the part of a photograph, in its own pixels, that the model sees."""
        left, top, right, bottom = seen_part(image, self.preprocess, self.size(image, fit), fit)
        return round(top), round(left), round(bottom - top), round(right - left)

    def model(self, size: Pair) -> nn.Layer:
        """The model for this size; the last few are kept."""
        if size == self.img_size:
            return self.own
        if size not in self._models:
            while len(self._models) >= _KEPT:
                self._models.pop(next(iter(self._models)))
            self._models[size] = self._evaluating(size)
        return self._models[size]

    def explain(self, method: str, views: Sequence[View], options: Options | None = None) -> list[Picture]:
        """A picture for each of ``views``, which are of one size; for a method of weights one, and no views."""
        options = replace(options or Options(), class_names=self.class_names)
        if method in OF_WEIGHTS:
            return [explain_weights(method, self.own, options)]
        pixels = np.stack([one.pixels for one in views])
        model = self.model((pixels.shape[2], pixels.shape[3]))
        return explain_images(method, model, paddle.to_tensor(pixels), options)

    def _evaluating(self, size: Pair | None) -> nn.Layer:
        model = self._build(size)
        model.eval()
        return model
