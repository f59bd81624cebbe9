"""From a JPEG file to the model's input, one image after the other on one core: ours, and torchvision on Pillow."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any, Callable

import numpy as np

from paddle_cait.bench.timm_models import import_torch
from paddle_cait.bench.work import Work
from paddle_cait.data.image_files import images_below
from paddle_cait.data.transforms import decode, eval_transform
from paddle_cait.errors import DataError
from paddle_cait.presets import get_preset
from paddle_cait.versions import installed

_COUNT = 64  # files, spread over the folder; after the first round they come from memory


def ours(spec: dict[str, Any]) -> Work:
    transform = eval_transform(get_preset(spec["model"], spec["preset_file"]))
    settings = {"version": f"Pillow {installed('pillow')}", "transform": transform.describe()}
    return _work(lambda path: transform(decode(path)), spec, settings)


def torchvision(spec: dict[str, Any]) -> Work:
    import_torch(spec["threads"])
    from torchvision import transforms
    from torchvision.datasets.folder import pil_loader

    p = get_preset(spec["model"], spec["preset_file"]).preprocess
    mode = transforms.InterpolationMode(p.interpolation)
    if p.crop_mode == "squash":
        resize = [transforms.Resize((p.img_size, p.img_size), mode)]
    else:
        resize = [transforms.Resize(int(p.img_size / p.crop_pct), mode), transforms.CenterCrop(p.img_size)]
    whole = transforms.Compose([*resize, transforms.ToTensor(), transforms.Normalize(p.mean, p.std)])
    settings = {"version": f"{installed('torchvision')}, Pillow {installed('pillow')}"}
    return _work(lambda path: whole(pil_loader(path)).numpy(), spec, settings)


def _work(prepare: Callable[[str], np.ndarray], spec: dict[str, Any], settings: dict[str, Any]) -> Work:
    """The check is a digest of each image's numbers: they must be the same bit for bit."""
    root = Path(spec["data_dir"])
    names = images_below(root) if root.is_dir() else []
    if not names:
        raise DataError(f"{root}: holds no images, expected a folder of photographs")
    count = min(len(names), _COUNT)
    paths = [str(root / names[i * len(names) // count]) for i in range(count)]
    turn = itertools.cycle(paths)

    def check() -> np.ndarray:
        digests = [hashlib.sha256(np.ascontiguousarray(prepare(path)).data).digest()[:6] for path in paths]
        return np.asarray([int.from_bytes(digest, "big") for digest in digests], np.float64)  # 48 bits are exact

    return Work(lambda: prepare(next(turn)), check, 1, {**settings, "files": len(paths)})
