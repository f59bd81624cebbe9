"""Pixels without torch: against stored ones, against plain arithmetic, and every kind of file people feed in."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from golden.make_pixels import CASES, MEAN, PIXELS, STD, picture
from PIL import Image

from paddle_cait.data import transforms
from paddle_cait.data.transforms import EvalTransform, center_box, decode, eval_transform, resized_size
from paddle_cait.errors import DataError, PaddleCaitError
from paddle_cait.presets import Preprocess

PREPROCESS = Preprocess(16, 0.875, "center", "bicubic", MEAN, STD)


def encode(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", list(CASES))
def test_pixels_are_the_stored_ones(name: str) -> None:
    size, *fields = CASES[name]
    ours = EvalTransform(Preprocess(*fields, MEAN, STD))(picture(*size))
    with np.load(PIXELS, allow_pickle=False) as stored:
        expected = stored[name]
    assert ours.dtype == expected.dtype == np.float32
    assert np.array_equal(ours, expected)


def test_arithmetic_of_every_byte() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    preprocess = Preprocess(16, 1.0, "center", "bicubic", MEAN, STD)
    out = EvalTransform(preprocess)(Image.fromarray(np.dstack([ramp, ramp[::-1], ramp.T])))
    for c, band in enumerate((ramp, ramp[::-1], ramp.T)):
        for y, x in np.ndindex(16, 16):
            value = (np.float32(band[y, x]) / np.float32(255) - np.float32(MEAN[c])) / np.float32(STD[c])
            assert out[c, y, x] == value


@pytest.mark.parametrize(
    ("size", "img_size", "crop_pct", "expected"),
    [
        ((500, 375), 224, 0.875, (341, 256)),
        ((375, 500), 224, 0.875, (256, 341)),
        ((500, 375), 384, 0.875, (584, 438)),
        ((500, 333), 224, 0.9, (372, 248)),
        ((1, 5000), 224, 1.0, (224, 1120000)),
        ((224, 224), 224, 1.0, (224, 224)),
    ],
)
def test_size_before_the_crop(size: Any, img_size: int, crop_pct: float, expected: tuple[int, int]) -> None:
    preprocess = Preprocess(img_size, crop_pct, "center", "bicubic", MEAN, STD)
    assert resized_size(size, preprocess) == expected
    assert resized_size(size, Preprocess(img_size, 1.0, "squash", "bicubic", MEAN, STD)) == (img_size, img_size)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((341, 256), (58, 16, 282, 240)),
        ((225, 227), (0, 2, 224, 226)),  # margins 1 and 3: round(0.5) = 0, round(1.5) = 2
        ((229, 224), (2, 0, 226, 224)),
        ((200, 224), (-12, 0, 212, 224)),
        ((201, 300), (-11, 38, 213, 262)),
    ],
)
def test_place_of_the_crop(size: tuple[int, int], expected: tuple[int, ...]) -> None:
    assert center_box(size, 224) == expected


def test_padding_is_black() -> None:
    wide = SimpleNamespace(**{**vars(PREPROCESS), "crop_pct": 1.6})
    out = EvalTransform(wide)(Image.new("RGB", (20, 20), "white"))  # type: ignore[arg-type]
    white = (np.float32(1) - np.float32(MEAN[0])) / np.float32(STD[0])
    assert out.shape == (3, 16, 16)
    assert np.all(out[0, 3:13, 3:13] == white)
    assert np.all(out[0, :3] == -np.float32(MEAN[0]) / np.float32(STD[0]))
    assert np.all(out[0, :, 13:] == out[0, 0, 0])


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2000)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    out = EvalTransform(PREPROCESS)(Image.new("RGB", size, (255, 0, 0)))
    assert out.shape == (3, 16, 16)
    assert np.ptp(out[0]) == np.ptp(out[1]) == 0


def test_a_too_elongated_image_is_refused() -> None:
    with pytest.raises(DataError, match="1 x 400000 pixels is too elongated"):
        EvalTransform(Preprocess(224, 1.0, "center", "bicubic", MEAN, STD))(Image.new("L", (1, 400_000)))


def test_modes_become_rgb() -> None:
    photo = picture(24, 18)
    palette = photo.quantize(32)
    deep = Image.fromarray(np.array([[0, 100, 255, 256, 65535]], np.uint16))
    grey = photo.convert("L")
    assert np.array_equal(decode(encode(grey)), np.dstack([np.asarray(grey)] * 3))
    assert np.array_equal(decode(encode(photo.convert("1"))), photo.convert("1").convert("RGB"))
    assert np.array_equal(decode(encode(palette)), palette.convert("RGB"))
    assert np.array_equal(decode(encode(palette, transparency=bytes(range(32)))), palette.convert("RGB"))
    with_alpha = Image.merge("LA", [grey, Image.new("L", grey.size, 7)])
    assert np.array_equal(decode(encode(with_alpha)), grey.convert("RGB"))
    cmyk = Image.merge("CMYK", [*photo.split(), Image.new("L", photo.size, 40)])
    assert np.array_equal(decode(encode(cmyk, "tiff")), cmyk.convert("RGB"))
    assert np.asarray(decode(encode(deep)))[0, :, 0].tolist() == np.asarray(deep.convert("RGB"))[0, :, 0].tolist()


def test_the_transform_converts_too() -> None:
    image = picture(24, 18).convert("CMYK")
    assert np.array_equal(EvalTransform(PREPROCESS)(image), EvalTransform(PREPROCESS)(image.convert("RGB")))


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[274] = 6
    photo = picture(40, 20)
    rotated = decode(encode(photo, "jpeg", exif=exif, quality=95))
    assert rotated.size == (40, 20)
    assert np.array_equal(rotated, decode(encode(photo, "jpeg", quality=95)))


def _broken_files() -> dict[str, tuple[bytes, str]]:
    jpeg, png = encode(picture(64, 64), "jpeg"), encode(picture(64, 64))
    return {
        "empty.JPEG": (b"", "0 bytes"),
        "text.JPEG": (b"<html>404 Not Found</html>", "not an image"),
        "cut.JPEG": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut_in_header.JPEG": (jpeg[:30], "cannot be decoded|not an image"),
        "cut.png": (png[: len(png) // 2], "cannot be decoded"),
        "damaged.png": (png[:60] + bytes(40) + png[100:], "cannot be decoded"),
    }


@pytest.mark.parametrize("name", list(_broken_files()))
def test_broken_files_name_themselves(name: str, tmp_path: Path) -> None:
    data, reason = _broken_files()[name]
    (tmp_path / name).write_bytes(data)
    for error_of in (lambda: decode(tmp_path / name), lambda: decode(data, f"tar:{name}")):
        with pytest.raises(DataError, match=reason) as caught:
            error_of()
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jpg: no such file"):
        decode(tmp_path / "none.jpg")
    with pytest.raises(DataError, match=str(tmp_path)):
        decode(tmp_path)


def test_large_photos_are_read_and_bombs_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)  # Pillow: warns above, an error from 10,000 on
    monkeypatch.setattr(transforms, "MAX_PIXELS", 20_000)
    filters = list(warnings.filters)
    for side in (80, 140):
        assert decode(encode(Image.new("L", (side, side)))).size == (side, side)
    with pytest.raises(DataError, match="more than 20000 pixels, refused as a decompression bomb"):
        decode(encode(Image.new("L", (142, 142))))
    assert Image.MAX_IMAGE_PIXELS == 5_000
    assert warnings.filters == filters
    assert transforms.MAX_PIXELS == 20_000


def test_bound_admits_200_megapixels() -> None:
    assert 200e6 < transforms.MAX_PIXELS < 300e6


def test_threads_leave_no_settings_behind() -> None:
    limit, filters, errors = Image.MAX_IMAGE_PIXELS, list(warnings.filters), []
    data = encode(picture(200, 200), "jpeg")

    def work() -> None:
        try:
            for _ in range(30):
                decode(data)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert limit == Image.MAX_IMAGE_PIXELS
    assert warnings.filters == filters


@pytest.mark.parametrize("size", [(40, 31), (9, 5)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 1.4])
def test_cv2_is_offered_and_marked(size: tuple[int, int], crop_pct: float) -> None:
    pytest.importorskip("cv2", reason="OpenCV is installed but may lack the system library libGL")
    settings = SimpleNamespace(**{**vars(PREPROCESS), "crop_pct": crop_pct})
    tf = EvalTransform(settings, backend="cv2")  # type: ignore[arg-type]
    assert not tf.comparable
    assert "antialias" in tf.reason
    assert "not comparable" in tf.describe()
    out, pillow = tf(picture(*size)), EvalTransform(settings)(picture(*size))  # type: ignore[arg-type]
    assert out.shape == pillow.shape
    assert np.corrcoef(out.ravel(), pillow.ravel())[0, 1] > 0.6  # the same picture in the same place ...
    assert not np.array_equal(out, pillow)  # ... from other pixels
    assert EvalTransform(PREPROCESS).comparable
    assert EvalTransform(PREPROCESS).reason == ""


def test_eval_transform_takes_all_that_has_preprocessing() -> None:
    preset = SimpleNamespace(preprocess=PREPROCESS)
    for source in (PREPROCESS, preset, SimpleNamespace(preset=preset)):
        assert eval_transform(source).preprocess == PREPROCESS
    changed = eval_transform(preset, img_size=32, crop_pct=1.0, mean=[0.5, 0.5, 0.5]).preprocess
    assert (changed.img_size, changed.crop_pct, changed.mean, changed.std) == (32, 1.0, (0.5, 0.5, 0.5), STD)
    assert eval_transform(PREPROCESS, img_size=24)(picture(30, 30)).shape == (3, 24, 24)


def test_eval_transform_of_a_preset_name() -> None:
    tf = eval_transform("cait_xxs24_224")
    assert tf(picture(40, 31)).shape == (3, 224, 224)
    assert (tf.preprocess.crop_pct, tf.preprocess.interpolation) == (1.0, "bicubic")
    assert tf.describe().startswith("Resize(224) + CenterCrop(224), bicubic (Pillow ")
    with pytest.raises(PaddleCaitError, match="cait_xxs24_225"):
        eval_transform("cait_xxs24_225")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eval_transform(PREPROCESS, size=3), "unknown preprocessing option 'size'"),
        (lambda: eval_transform(object()), "no preprocessing known for object"),
        (lambda: eval_transform(PREPROCESS, backend="paddle"), "backend is 'paddle'"),
        (lambda: eval_transform(PREPROCESS, crop_mode="squash"), "crop_pct must be 1.0, not 0.875"),
        (lambda: eval_transform(PREPROCESS, backend="cv2", interpolation="hamming"), "OpenCV has no 'hamming'"),
    ],
)
def test_wrong_settings(call: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_a_pickled_transform_is_the_same() -> None:
    tf = EvalTransform(PREPROCESS)
    assert np.array_equal(pickle.loads(pickle.dumps(tf))(picture(40, 31)), tf(picture(40, 31)))


def test_import_is_light() -> None:
    code = (
        "import sys, paddle_cait.data.transforms, paddle_cait.data.sources, paddle_cait.data.loader; "
        "print([m for m in ('paddle', 'torch', 'cv2', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
