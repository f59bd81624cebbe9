"""Entry points of ``paddle.hub``: one function a preset, made from ``configs/models``.

    paddle.hub.list("path/of/a/checkout", source="local")       # or "owner/repository"
    print(paddle.hub.help("path/of/a/checkout", "cait_xxs24_224", source="local"))
    model = paddle.hub.load("path/of/a/checkout", "cait_xxs24_224", source="local", pretrained="XXS24_224.pth")

A name is ``model``, which means its first set of weights, or ``model.tag``. Listed are all models, and ``model.tag``
for their further sets of weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Python 3.9 would remember modules under a path like "." as paddle.hub was given it, and lose them elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent))
try:
    from paddle_cait.presets import Preset, list_presets
except ModuleNotFoundError as missing:  # Paddle brings no yaml, and would say of an ImportError only that there was one
    raise RuntimeError(f"paddle_cait needs {missing.name}: pip install numpy pillow pyyaml tqdm") from missing
finally:
    del sys.path[0]

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from paddle import nn

dependencies = ["paddle", "numpy", "yaml"]  # read by paddle.hub.load: modules, not distributions

DOC = """{preset.full_name}: {preset.num_params:,} parameters, images of {preset.preprocess.img_size} pixels a side.

{published}
Weights: {weights}; licence {preset.licence}. Paper: {preset.paper}

Args:
    pretrained: the path of a checkpoint, of any supported format and layout; True or "official" for the authors' file;
        False for the initial weights.
    kwargs: further keywords of paddle_cait.create_model, such as num_classes, img_size, drop_path_rate.

Returns a paddle.nn.Layer. paddle_cait.eval_transform("{preset.full_name}") prepares images for it.
"""


def _entry(preset: Preset) -> Callable[..., nn.Layer]:
    def entry(pretrained: bool | str | PathLike[str] = False, **kwargs: Any) -> nn.Layer:
        from paddle_cait.factory import create_model

        return create_model(preset, "official" if pretrained is True else pretrained or None, **kwargs)

    source = preset.checkpoint
    weights = source.url or source.filename if source else "no file of them is known"
    entry.__name__ = entry.__qualname__ = preset.full_name
    entry.__doc__ = DOC.format(preset=preset, published=_published(preset), weights=weights)
    return entry


def _published(preset: Preset) -> str:
    number = preset.published
    if number is None:
        return "No accuracy of these weights was published."
    protocol = "" if number.protocol == "classifier" else f" ({number.protocol})"
    return f"Published: top-1 {number.top1:.3f}%{protocol} on {number.n} images, by {number.source}."


_by_full_name = {preset.full_name: _entry(preset) for preset in list_presets()}
_listed: dict[str, Callable[..., nn.Layer]] = {}
for _preset in list_presets():
    _listed[_preset.full_name if _preset.name in _listed else _preset.name] = _by_full_name[_preset.full_name]
globals().update(_by_full_name | _listed)


def __dir__() -> list[str]:
    """What ``paddle.hub.list`` shows: one name a preset, and nothing that is imported here."""
    return list(_listed)
