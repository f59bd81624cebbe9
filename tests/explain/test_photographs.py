"""What the model sees of a photograph, and that the picture shows the same part."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import paddle_cait as pc
from paddle_cait.data.transforms import EvalTransform
from paddle_cait.explain.photographs import SHOWN, seen_part, view, whole_size


def place(width, height):
    """A photograph whose red says the column and whose green the row, in 0..255."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1).round().astype(np.uint8))


def preprocess(**changes):
    return dataclasses.replace(pc.get_preset("deit_tiny_patch16_224").preprocess, **changes)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (1600, 900), (224, 224), (300, 256), (100, 80)])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_the_crop_is_what_evaluation_sees_and_the_picture_shows_the_same(width, height, crop_pct):
    image, rule = place(width, height), preprocess(crop_pct=crop_pct)
    seen = view(image, rule, (224, 224))
    assert np.array_equal(seen.pixels, EvalTransform(rule)(image))
    assert seen.photo.shape[0] == seen.photo.shape[1] >= 224
    model = EvalTransform(rule).pixels(image).astype(float)
    shown = np.asarray(Image.fromarray(seen.photo).resize((224, 224), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(shown - model)[8:-8, 8:-8].max() < 4  # the same places, within a pixel of the smaller one


def test_a_squashed_photograph_is_shown_whole_and_undistorted():
    rule = preprocess(crop_mode="squash", crop_pct=1.0)
    seen = view(place(600, 300), rule, (224, 224))
    assert seen.pixels.shape == (3, 224, 224) and seen.photo.shape == (300, 600, 3)


def test_large_photographs_are_shown_smaller_and_small_ones_at_the_models_size():
    assert view(place(4000, 3000), preprocess(), (224, 224)).photo.shape == (SHOWN, SHOWN, 3)
    assert view(place(64, 64), preprocess(crop_pct=1.0), (224, 224)).photo.shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("image", "short", "step", "expected"),
    [
        ((640, 360), 224, (14, 14), (224, 392)),
        ((360, 640), 224, (14, 14), (392, 224)),
        ((500, 375), 224, (16, 16), (224, 304)),
        ((50, 50), 224, (16, 16), (224, 224)),
        ((1000, 10), 8, (16, 16), (16, 800)),
    ],
)
def test_a_whole_photograph_in_whole_patches(image, short, step, expected):
    assert whole_size(image, short, step) == expected


def test_whole_view_keeps_every_part():
    image = place(640, 360)
    seen = view(image, preprocess(), (224, 400), "whole")
    assert seen.pixels.shape == (3, 224, 400) and seen.photo.shape[:2] == (360, 640)
    assert seen_part((640, 360), preprocess(), (224, 400), "whole") == (0, 0, 640, 360)


def test_an_elongated_photograph_is_refused():
    with pytest.raises(pc.DataError, match="an image of 100000 x 10 pixels would be .* too elongated"):
        whole_size((100000, 10), 224, (16, 16))
