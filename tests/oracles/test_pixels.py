"""The pixels that enter the model are torchvision's on Pillow, bit for bit."""

from __future__ import annotations

import dataclasses
import io
import os
import random
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from oracles.torchvision_cpu import pil_loader, reference_transform, transforms
from PIL import Image

from paddle_cait.data.transforms import EvalTransform, center_box, decode
from paddle_cait.presets import CROP_MODES, INTERPOLATIONS, Preprocess

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SIZES = [(1, 1), (1, 300), (400, 1), (3, 2), (31, 32), (32, 32), (33, 32), (57, 91), (500, 375), (375, 500), (333, 500)]


def _noise(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Noise shows every difference of rounding, crop and filter."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    return Image.frombytes(mode, size, values.tobytes())


def _assert_same(image: Image.Image, preprocess: Preprocess) -> None:
    ours = EvalTransform(preprocess)(image)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    theirs = reference_transform(preprocess)(image.convert("RGB")).numpy()
    assert np.array_equal(ours, theirs), f"{image.size} {preprocess}: {np.abs(ours - theirs).max()}"


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_filter_size_and_ratio(interpolation: str, crop_mode: str) -> None:
    for seed, size in enumerate(SIZES):
        for img_size, crop_pct in ((32, 1.0), (33, 0.875), (47, 0.9), (64, 0.95)):
            ratio = crop_pct if crop_mode == "center" else 1.0
            _assert_same(_noise(size, seed=seed), Preprocess(img_size, ratio, crop_mode, interpolation, **IMAGENET))


def test_random_sizes() -> None:
    draw = random.Random(0)
    for seed in range(60):
        size = (draw.randint(1, 700), draw.randint(1, 700))
        crop_pct = draw.choice((1.0, 0.875, 0.9, 0.95, draw.uniform(0.3, 1)))
        preprocess = Preprocess(draw.randint(1, 260), crop_pct, "center", draw.choice(INTERPOLATIONS), **IMAGENET)
        _assert_same(_noise(size, seed=seed), preprocess)


@pytest.mark.parametrize(
    "norm", [((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3), ((0.1, 0.7, 0.3), (0.3, 1.7, 0.07))]
)
def test_every_byte_under_several_normalisations(norm: tuple) -> None:
    every = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    _assert_same(every, Preprocess(16, 1.0, "center", "bicubic", *norm))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F"])
def test_every_mode(mode: str) -> None:
    if mode in ("1", "P", "LAB"):
        image = _noise((60, 50)).convert(mode) if mode != "LAB" else _noise((60, 50), "LAB")
    elif mode in ("I;16", "I", "F"):
        image = Image.fromarray(
            (np.arange(3000).reshape(50, 60) * 21).astype({"I;16": "u2", "I": "i4", "F": "f4"}[mode])
        )
    else:
        image = _noise((60, 50), mode)
    assert image.mode == mode
    _assert_same(image, Preprocess(32, 0.875, "center", "bicubic", **IMAGENET))


def test_padding_and_rounding_of_the_crop() -> None:
    for width in range(1, 40):
        for height in (1, 7, 16, 17, 18, 19, 33):
            image = _noise((width, height))
            for crop in (16, 17):
                ours = np.asarray(image.crop(center_box(image.size, crop)))
                assert np.array_equal(ours, np.asarray(transforms.CenterCrop(crop)(image))), (image.size, crop)


def test_crop_larger_than_the_resized_image() -> None:
    preprocess = SimpleNamespace(img_size=33, crop_pct=1.31, crop_mode="center", interpolation="bicubic", **IMAGENET)
    for size in SIZES[3:]:
        _assert_same(_noise(size), preprocess)  # type: ignore[arg-type]


def _encoded() -> dict[str, bytes]:
    """Files in the modes that torchvision's loader meets."""
    photo, out = _noise((61, 43)), {}
    palette = photo.quantize(64)
    orientation = Image.Exif()
    orientation[274] = 6
    deep = Image.fromarray(np.arange(61 * 43, dtype=np.uint16).reshape(43, 61) * 25)
    for name, image, options in (
        ("grey.jpg", photo.convert("L"), {}),
        ("cmyk.jpg", photo.convert("CMYK"), {}),
        ("rotated.jpg", photo, {"exif": orientation, "quality": 90}),
        ("progressive.jpg", photo, {"progressive": True, "subsampling": 2}),
        ("palette.png", palette, {}),
        ("palette_transparent.png", palette, {"transparency": 3}),
        ("palette_transparent_bytes.png", palette, {"transparency": bytes(range(64))}),
        ("grey_alpha.png", photo.convert("LA"), {}),
        ("rgb_transparent.png", photo, {"transparency": (1, 2, 3)}),
        ("deep.png", deep, {}),
        ("one_bit.png", photo.convert("1"), {}),
        ("cmyk.tif", photo.convert("CMYK"), {}),
        ("lossy.webp", photo, {}),
        ("plain.bmp", photo, {}),
        ("plain.gif", palette, {}),
        ("plain.ppm", photo, {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(name[-3:], Path(name).suffix[1:]), **options)
        out[name] = buffer.getvalue()
    return out


@pytest.mark.parametrize("name", list(_encoded()))
def test_files_decode_as_torchvision_reads_them(name: str, tmp_path: Path) -> None:
    data = _encoded()[name]
    (tmp_path / name).write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, for the palette with transparency: ours are silent by design
        theirs = pil_loader(tmp_path / name)
    ours = decode(data)
    assert ours.mode == "RGB"
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    assert np.array_equal(np.asarray(decode(tmp_path / name)), np.asarray(theirs))


SAMPLES = os.environ.get("PADDLE_CAIT_SAMPLES", "")


@pytest.mark.skipif(not SAMPLES, reason="set PADDLE_CAIT_SAMPLES to a folder of photographs")
@pytest.mark.parametrize("img_size", [224, 384, 448])
def test_photographs(img_size: int) -> None:
    files = sorted(p for p in Path(SAMPLES).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    assert files, f"PADDLE_CAIT_SAMPLES: no photographs in {SAMPLES}"
    preprocess = Preprocess(img_size, {224: 0.875, 384: 1.0, 448: 1.0}[img_size], "center", "bicubic", **IMAGENET)
    for settings in (preprocess, dataclasses.replace(preprocess, crop_mode="squash", crop_pct=1.0)):
        ours, theirs = EvalTransform(settings), reference_transform(settings)
        wrong = [f.name for f in files if not np.array_equal(ours(decode(f)), theirs(pil_loader(f)).numpy())]
        assert not wrong, f"{len(wrong)} of {len(files)} differ: {wrong[:5]}"
