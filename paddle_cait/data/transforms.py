"""Photograph -> model input, equal bit for bit to torchvision's Resize, CenterCrop, ToTensor, Normalize on Pillow.

Pixels: Pillow decodes and resizes (it antialiases; OpenCV does not, which costs up to 0.4 points of accuracy). Pillow
13 resizes some shapes rows first, older ones always columns first, and each pass rounds: a few pixels of an odd tall
photo then differ by one level, in torchvision as here. So `EvalTransform.describe` names Pillow's version.
Arithmetic: float32, in torchvision's order: ``(x / 255 - mean) / std``.
"""

from __future__ import annotations

import dataclasses
import io
import os
import threading
import warnings
import zlib  # noqa: F401  on paddlepaddle 2.6.2 zlib and Pillow's PNG code crash if they first load after paddle
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
from PIL import Image, ImageOps

from paddle_cait.errors import DataError

if TYPE_CHECKING:
    from paddle_cait.presets import Preprocess

Image.preinit()  # load the common formats now: see zlib above

MAX_PIXELS = 1 << 28
"""Largest image that is read, and largest size one is resized to: 268 million pixels, 1 GiB decoded. The largest
cameras give 200 million. Pillow's own limits (a warning at 89 million, an error at 179) do not apply in `decode`."""

BACKENDS = ("pillow", "cv2")
CV2_REASON = "OpenCV resizes without antialiasing: other pixels, so accuracies do not compare with published ones"

PIL_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
_CV2_FILTERS = {
    "nearest": "INTER_NEAREST",
    "bilinear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "lanczos": "INTER_LANCZOS4",
    "box": "INTER_AREA",
}


def decode(data: bytes | str | os.PathLike[str], path: str | None = None, exif: bool = False) -> Image.Image:
    """An encoded image (its bytes, or the path of its file) as an RGB ``PIL.Image``, as torchvision's loader reads it.

    Every mode goes through ``convert("RGB")``; the EXIF orientation is not applied, unless ``exif`` asks for it.
    ``path`` names bytes in messages. Raises `DataError` for a file that is missing, empty, truncated, corrupt, no
    image, or above `MAX_PIXELS`.
    """
    name = path or ("image" if isinstance(data, bytes) else os.fspath(data))
    try:
        if isinstance(data, bytes):
            encoded = data
        else:
            with open(data, "rb") as file:
                encoded = file.read()
        if not encoded:
            raise DataError(f"{name}: the file is empty (0 bytes), expected an image; copy or download it again")
        with _PILLOW:
            image: Image.Image = Image.open(io.BytesIO(encoded))
            image.load()
            if exif:
                image = ImageOps.exif_transpose(image)
            # convert() of an RGB image is a copy of it: the same pixels, later
            return image if image.mode == "RGB" else image.convert("RGB")
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: more than {MAX_PIXELS} pixels, refused as a decompression bomb") from error
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image that Pillow can read (begins with {encoded[:8]!r})") from error
    except Exception as error:  # Pillow's format readers raise whatever the damaged bytes lead them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: the image cannot be decoded ({reason}); copy or download it again") from error


class EvalTransform:
    """``PIL.Image -> numpy float32 [3, img_size, img_size]``, as ``preprocess`` (a `presets.Preprocess`) says.

    ``center``: the short side to ``int(img_size / crop_pct)``, the long side to ``int(short' * long / short)``, then a
    centred square. ``squash``: straight to ``img_size`` x ``img_size``; it needs ``crop_pct`` 1.
    ``backend="cv2"`` exists to reproduce other pipelines; its `comparable` is False, for the `reason` given.
    Raises :class:`DataError` for other backends, and for a setting that the backend does not do.
    """

    def __init__(self, preprocess: Preprocess, backend: str = "pillow") -> None:
        if backend not in BACKENDS:
            raise DataError(f"backend is {backend!r}, expected one of {', '.join(BACKENDS)}")
        if preprocess.crop_mode not in ("center", "squash") or preprocess.interpolation not in PIL_FILTERS:
            raise DataError(f"unknown crop_mode or interpolation in {preprocess}")
        if preprocess.crop_mode == "squash" and preprocess.crop_pct != 1:
            raise DataError(f"crop_mode 'squash' crops nothing: crop_pct must be 1.0, not {preprocess.crop_pct}")
        if backend == "cv2" and preprocess.interpolation not in _CV2_FILTERS:
            raise DataError(f"OpenCV has no {preprocess.interpolation!r} interpolation, use backend='pillow'")
        self.preprocess = preprocess
        self.backend = backend

    @property
    def comparable(self) -> bool:
        """Whether accuracies measured on these pixels compare with published ones."""
        return self.backend == "pillow"

    @property
    def reason(self) -> str:
        """Why they do not compare, or an empty string."""
        return "" if self.comparable else CV2_REASON

    def describe(self) -> str:
        """One line for logs and reports."""
        p = self.preprocess
        size = f"Resize({int(p.img_size / p.crop_pct)}) + CenterCrop({p.img_size})"
        if p.crop_mode == "squash":
            size = f"Resize({p.img_size}, {p.img_size})"
        library = f"Pillow {PIL.__version__}" if self.backend == "pillow" else "OpenCV, not comparable"
        return f"{size}, {p.interpolation} ({library}), mean {tuple(p.mean)}, std {tuple(p.std)}"

    __repr__ = describe

    def __call__(self, image: Image.Image) -> np.ndarray:
        """float32 [3, img_size, img_size]: ``(pixels / 255 - mean) / std``, RGB. Errors as of :meth:`pixels`."""
        return normalise(self.pixels(image), self.preprocess)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """uint8 [img_size, img_size, 3]: resized and cropped, before the arithmetic. May be read-only.

        Raises :class:`DataError` for an image so elongated that it would be resized to more than `MAX_PIXELS`.
        """
        if image.mode != "RGB":
            with _PILLOW:
                image = image.convert("RGB")
        return self._pixels_cv2(image) if self.backend == "cv2" else self._pixels_pillow(image)

    def _pixels_pillow(self, image: Image.Image) -> np.ndarray:
        size = self.preprocess.img_size
        resample = PIL_FILTERS[self.preprocess.interpolation]
        width, height = resized_size(image.size, self.preprocess)
        box = center_box((width, height), size)
        if image.size != (width, height):
            image = image.resize((width, height), resample)
        if box != (0, 0, width, height):
            image = image.crop(box)  # outside of the image Pillow gives 0, as torchvision's padding does
        return np.asarray(image)

    def _pixels_cv2(self, image: Image.Image) -> np.ndarray:
        try:
            import cv2
        except ImportError as error:
            raise DataError("backend='cv2' needs OpenCV: pip install opencv-python-headless") from error
        size = self.preprocess.img_size
        interpolation = getattr(cv2, _CV2_FILTERS[self.preprocess.interpolation])
        width, height = resized_size(image.size, self.preprocess)
        left, top, _, _ = center_box((width, height), size)
        pixels = cv2.resize(np.asarray(image), (width, height), interpolation=interpolation)
        pixels = pixels[max(top, 0) :, max(left, 0) :][:size, :size]
        out = np.zeros((size, size, 3), np.uint8)
        top, left = max(-top, 0), max(-left, 0)
        out[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return out


class PixelTransform(EvalTransform):
    """``PIL.Image -> numpy uint8 [img_size, img_size, 3]``, for models that hold the arithmetic themselves."""

    def __call__(self, image: Image.Image) -> np.ndarray:
        return self.pixels(image)


def normalise(pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [3, H, W]: ``(x / 255 - mean) / std``, in torchvision's order."""
    out = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    # three operations on floats take less time than looking 3 * H * W bytes up in a table of 256 results
    out /= np.float32(255)
    out -= np.asarray(preprocess.mean, np.float32).reshape(3, 1, 1)
    out /= np.asarray(preprocess.std, np.float32).reshape(3, 1, 1)
    return out


def resized_size(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """(width, height) that an image of ``size`` (width, height) is resized to before the crop."""
    if preprocess.crop_mode == "squash":
        return preprocess.img_size, preprocess.img_size
    width, height = size
    short = int(preprocess.img_size / preprocess.crop_pct)
    long = int(short * max(size) / min(size))
    if short * long > MAX_PIXELS:
        raise DataError(f"an image of {width} x {height} pixels is too elongated: resized it would be {short} x {long}")
    return (short, long) if width <= height else (long, short)


def center_box(size: tuple[int, int], crop: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of torchvision's CenterCrop; negative where the image is smaller and is padded."""
    # Python's round, halves to even, and the floor of the padding are torchvision's
    left, top = (-((crop - side) // 2) if side < crop else round((side - crop) / 2.0) for side in size)
    return left, top, left + crop, top + crop


def eval_transform(model_or_preset: Any, backend: str = "pillow", **overrides: Any) -> EvalTransform:
    """The evaluation transform of ``model_or_preset``: a preset name, a ``Preset``, a ``Preprocess``, or a model (at
    the model's own size).

    ``overrides`` are fields of ``Preprocess``: ``img_size=384``, ``crop_pct=1.0``, ``interpolation="bilinear"``, ...
    ``backend``: see :class:`EvalTransform`. Raises :class:`DataError` for unknown fields, a model whose input is no
    square, and what has no preprocessing; :class:`PresetError` for an unknown name.
    """
    found = model_or_preset
    if isinstance(found, str):
        from paddle_cait.presets import get_preset

        found = get_preset(found)
    size = getattr(found, "img_size", None)  # of a model built for another size than its preset's
    found = getattr(found, "preset", None) or found
    found = getattr(found, "preprocess", None) or found
    if not hasattr(found, "crop_mode"):
        raise DataError(f"no preprocessing known for {type(found).__name__}: pass a preset name or a Preprocess")
    fields = [field.name for field in dataclasses.fields(found)]
    unknown = sorted(set(overrides) - set(fields))
    if unknown:
        raise DataError(f"unknown preprocessing option {unknown[0]!r}, expected one of {', '.join(fields)}")
    if isinstance(size, tuple) and "img_size" not in overrides:
        if size[0] != size[1]:
            raise DataError(
                f"the model's input is {size[0]}x{size[1]}: prepare its images yourself, presets give squares"
            )
        overrides["img_size"] = size[0]
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in overrides.items()}
    return EvalTransform(dataclasses.replace(found, **values), backend)


class _PillowSettings:
    """While an image is decoded: `MAX_PIXELS` in place of Pillow's limits, and none of Pillow's warnings.

    Both are settings of the process, so threads that decode at the same time share one change: whoever comes first
    makes it, whoever leaves last takes it back (`warnings.catch_warnings` alone would lose filters).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        # a fork while another thread holds the lock would leave it locked in the child for ever
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._users:
            self._restore()
        self._users = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")
                self._limit = Image.MAX_IMAGE_PIXELS
                if self._limit is not None:
                    Image.MAX_IMAGE_PIXELS = max(self._limit, MAX_PIXELS // 2)  # Pillow's error comes at twice this
            self._users += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._restore()

    def _restore(self) -> None:
        Image.MAX_IMAGE_PIXELS = self._limit
        self._warnings.__exit__(None, None, None)


_PILLOW = _PillowSettings()
