"""What several test files share: drawn checkpoints in the official layout, and small presets."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from PIL import Image

import paddle_cait as pc
from paddle_cait.presets import Preset, read_preset_file
from paddle_cait.weights.plan import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))

from draw import SHRUNK, SHRUNK_FAMILIES, SHRUNK_GCVIT, SHRUNK_VIT, draw_state, images  # noqa: E402

__all__ = ["GOLDEN", "ROOT", "draw_state", "images", "npz", "official_shapes", "photographs", "preset", "run", "unpack"]

PRESET = """
family: {family}
licence: Apache-2.0
paper: https://arxiv.org/abs/2103.17239
defaults:
  preprocess: {{crop_pct: 1.0, crop_mode: center, interpolation: bicubic, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
  tolerance: {{points: 0.05, reason: for a test}}
models:
  {name}:
    arch: {arch}
    preprocess: {{img_size: {img_size}}}
    num_params: 1
    tags:
      drawn:
        checkpoint: {{filename: drawn.pth}}
        published: {{top1: 50.0, top5: 90.0, n: 12, source: nobody}}
"""


def preset(folder: Path, name: str = "tiny", family: str = "cait", **changes: Any) -> Preset:
    """A shrunk model's preset, through a real YAML file (kept at folder/presets.yaml)."""
    own = {"cait": SHRUNK, "gcvit": SHRUNK_GCVIT}
    arch = {**(own[family] if family in own else {**SHRUNK_VIT, **SHRUNK_FAMILIES[family]}), **changes}
    path = folder / "presets.yaml"
    flow = "{" + ", ".join(f"{k}: {_yaml(v)}" for k, v in arch.items()) + "}"
    path.write_text(PRESET.format(family=family, name=name, arch=flow, img_size=arch["img_size"]))
    return next(iter(read_preset_file(path).values()))


def _yaml(value: Any) -> str:
    return "1.0e-5" if value == 1e-5 else str(value).lower()  # YAML reads 1e-05 as text


def official_shapes(chosen: Preset) -> dict[str, tuple[int, ...]]:
    """PyTorch names and shapes of a preset's checkpoint."""
    with paddle.LazyGuard():
        spec = ModelSpec.of(pc.create_model(chosen))
    return {name: shape[::-1] if name in spec.linear else shape for name, shape in spec.shapes.items()}


def npz(path: Path, state: dict[str, np.ndarray]) -> Path:
    np.savez(path, **state)
    return path


def unpack(archive: Path, folder: Path) -> Path:
    """The members of a tar in ``folder``, as Python 3.14 and early releases of 3.9 alike take them out."""
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(folder)
    return folder


def photographs(folder: Path, count: int) -> Path:
    """A new folder with that many small PNG files of noise, ``00.png`` on."""
    folder.mkdir()
    rng = np.random.RandomState(0)
    for i in range(count):
        Image.fromarray(rng.randint(0, 256, (60, 50, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def run(model: Any, x: np.ndarray) -> np.ndarray:
    """Logits in evaluation mode."""
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(x)).numpy()
