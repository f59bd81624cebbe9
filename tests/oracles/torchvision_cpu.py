"""Import torchvision although its compiled operators do not fit the installed torch (CPU builds from two indexes).

Only the pixel transforms are wanted here and these are Python; the import merely asks for two operator names.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the oracle of the pixel tests is torchvision")

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # the operators live as long as this object
for _operator in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    with contextlib.suppress(RuntimeError):  # defined already, by a torchvision that does fit
        _LIBRARY.define(_operator)

transforms = pytest.importorskip("torchvision.transforms")
pil_loader = pytest.importorskip("torchvision.datasets.folder").pil_loader


def reference_transform(preprocess: Any) -> Any:
    """torchvision's own transform for ``preprocess``: ``PIL.Image -> torch float32 [3, H, W]``."""
    size, mode = preprocess.img_size, transforms.InterpolationMode(preprocess.interpolation)
    if preprocess.crop_mode == "squash":
        resize = [transforms.Resize((size, size), mode)]
    else:
        resize = [transforms.Resize(int(size / preprocess.crop_pct), mode), transforms.CenterCrop(size)]
    normalize = transforms.Normalize(preprocess.mean, preprocess.std)
    return transforms.Compose([*resize, transforms.ToTensor(), normalize])
