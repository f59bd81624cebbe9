"""Make ``pixels.npz``: what torchvision on Pillow gives for a drawn picture. Needs torch; its user does not.

    python tests/golden/make_pixels.py

The sizes are such that every Pillow since 9 gives the same pixels (13 resizes some tall pictures rows first).
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

PIXELS = Path(__file__).with_name("pixels.npz")

# name: (width, height), img_size, crop_pct, crop_mode, interpolation
CASES = {
    "cait": ((40, 31), 16, 1.0, "center", "bicubic"),
    "deit": ((50, 37), 14, 0.875, "center", "bicubic"),
    "tall": ((23, 30), 12, 0.9, "center", "bicubic"),
    "enlarged": ((7, 5), 12, 0.875, "center", "bicubic"),
    "as_it_is": ((16, 16), 16, 1.0, "center", "bicubic"),
    "odd_margins": ((29, 16), 11, 0.7, "center", "bilinear"),
    "vit": ((40, 31), 12, 1.0, "squash", "bilinear"),
    "one_pixel": ((1, 1), 8, 1.0, "center", "bicubic"),
    "nearest": ((33, 21), 10, 0.875, "center", "nearest"),
    "lanczos": ((33, 21), 10, 0.875, "center", "lanczos"),
    "box": ((33, 21), 10, 0.875, "center", "box"),
    "hamming": ((33, 21), 10, 0.875, "center", "hamming"),
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(width: int, height: int) -> Image.Image:
    """Edges and gradients, by arithmetic that no library version changes."""
    y, x, c = np.mgrid[:height, :width, :3]
    return Image.fromarray(((x * x * 5 + y * 37 + c * 83 + (x // 3 + y // 2) % 2 * 90) % 256).astype(np.uint8))


def settings(name: str) -> SimpleNamespace:
    """The fields of a ``Preprocess``."""
    _, img_size, crop_pct, crop_mode, interpolation = CASES[name]
    fields = {"img_size": img_size, "crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation}
    return SimpleNamespace(**fields, mean=MEAN, std=STD)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from oracles.torchvision_cpu import reference_transform

    arrays = {name: reference_transform(settings(name))(picture(*CASES[name][0])).numpy() for name in CASES}
    np.savez_compressed(PIXELS, **arrays)
    print(f"{PIXELS}: {len(arrays)} arrays, {PIXELS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
