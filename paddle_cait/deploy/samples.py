"""The images on which an export is verified, and those that calibrate int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddle_cait.data.image_files import images_below
from paddle_cait.data.sources import ImageSource, open_source
from paddle_cait.data.transforms import EvalTransform, decode
from paddle_cait.errors import ConfigError, DataError
from paddle_cait.files import PathLike
from paddle_cait.presets import Preprocess


@dataclass(frozen=True)
class Samples:
    """Photographs after resize and crop, uint8 [N, H, W, 3]. ``origin`` says in words where they come from."""

    pixels: np.ndarray
    preprocess: Preprocess
    origin: str
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def prepared(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 [n, 3, H, W], normalised: what the model itself takes. The arithmetic is `EvalTransform`'s."""
        mean, std = (np.asarray(v, np.float32).reshape(3, 1, 1) for v in (self.preprocess.mean, self.preprocess.std))
        images = self.pixels[start:stop].transpose(0, 3, 1, 2).astype(np.float32, order="C")
        images /= np.float32(255)
        images -= mean
        images /= std
        return images

    def inputs(self, dtype: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """As the exported model takes them: ``float32`` prepared, ``uint8`` as they are."""
        return self.pixels[start:stop] if dtype == "uint8" else self.prepared(start, stop)


def random_photographs(count: int, size: tuple[int, int], preprocess: Preprocess, seed: int = 0) -> Samples:
    """Noise with the statistics of photographs: its spectrum falls with 1/f, its channels are alike, it is mid-grey."""
    rng = np.random.RandomState(seed)
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    fields = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((count, 4, height, width))) / frequency, (height, width))
    fields /= fields.std((2, 3), keepdims=True)
    grey, colour = fields[:, 3:], fields[:, :3]
    levels = 115 + 60 * (0.9 * grey + 0.4 * colour)
    pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return Samples(np.ascontiguousarray(pixels), preprocess, f"{count} random images")


def read_samples(
    folder: PathLike,
    count: int,
    transform: EvalTransform,
    list_file: PathLike | None = None,
    num_classes: int | None = None,
) -> Samples:
    """``count`` images of a folder and its folders, or of a list file with labels, evenly spread over them."""
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{folder}: no such folder, expected photographs")
    if count < 1:
        raise ConfigError(f"the number of images is {count}, expected 1 or more")
    source = open_source(root, list_file, num_classes=num_classes) if list_file else _unlabelled(root)
    chosen = _spread(len(source), count)
    pixels = [transform.pixels(decode(source.read(i), source.path(i))) for i in chosen]
    labels = np.asarray([source.labels[i] for i in chosen]) if list_file else None
    return Samples(np.stack(pixels), transform.preprocess, f"{len(chosen)} images of {folder}", labels)


def _unlabelled(root: Path) -> ImageSource:
    names = images_below(root)
    if not names:
        raise DataError(f"{root}: no images in this folder or below it, expected photographs")
    return ImageSource("folder", root, names, [0] * len(names), "nothing")


def _spread(total: int, count: int) -> Sequence[int]:
    return [i * total // count for i in range(count)] if count < total else range(total)
