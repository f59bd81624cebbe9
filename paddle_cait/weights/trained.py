"""A fine-tuned checkpoint describes itself: the model, its classes and its size stand in the JSON file beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as quote  # short, whatever the value
from typing import Any

from paddle_cait.errors import ConfigError, PresetError, WeightsError
from paddle_cait.files import PathLike, sha256_file
from paddle_cait.presets import list_presets
from paddle_cait.weights.store import provenance_path

log = logging.getLogger("paddle_cait")

_OWN = ("num_classes", "img_size", "class_names")  # the provenance of a conversion has none of these
_MOST_BYTES, _MOST_CLASSES, _MOST_PIXELS = 8 << 20, 1 << 17, 4096  # a model is built of these: no file makes it huge


@dataclass(frozen=True)
class Trained:
    """What stands in ``file``: ``model`` is a preset's full name, ``img_size`` the side of a square, or (height,
    width), in pixels; ``class_names`` are in the order of the labels."""

    file: Path
    model: str
    num_classes: int
    img_size: int | tuple[int, int]
    class_names: tuple[str, ...]

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of model, num_classes, img_size and class_names that are None in ``given``, with their values here.

        ``given`` are flags or arguments by name; what is not among them is not asked for. A model of features (0
        classes) gets no class names. Raises :class:`ConfigError` for another number of classes than the weights have,
        :class:`PresetError` if the model is neither a packaged preset nor one of ``given["preset_file"]``.
        """
        classes = given.get("num_classes")
        if classes not in (None, 0, self.num_classes):
            raise ConfigError(
                f"{self.file}: the weights are of {self.num_classes} classes, not of {classes}: leave the number of "
                "classes out, or give 0 for features"
            )
        own: dict[str, Any] = {"model": self.model, "num_classes": self.num_classes, "img_size": self.img_size}
        if classes != 0:
            own["class_names"] = list(self.class_names)
        taken = {key: value for key, value in own.items() if key in given and given[key] is None}
        if "model" in taken:
            self._check_preset(given.get("preset_file"))
        return taken

    def _check_preset(self, preset_file: PathLike | None) -> None:
        if self.model not in {name for preset in list_presets(preset_file) for name in (preset.name, preset.full_name)}:
            hint = f"nor one of {preset_file}" if preset_file else "so give the --preset-file that it was trained with"
            raise PresetError(f"{self.file}: the model is {self.model}, which is no packaged preset, {hint}")


def read_trained(path: PathLike) -> Trained | None:
    """What a fine-tuned checkpoint says of itself; None for other files.

    A description of other weights than those at ``path`` is ignored with a warning. Raises :class:`WeightsError` for
    one that cannot be understood.
    """
    beside = provenance_path(path) if Path(path).is_file() else None
    if beside is None or not beside.is_file():
        return None
    found = _read(beside)
    if not isinstance(found, dict) or not any(key in found for key in _OWN):
        return None
    trained, sha256 = _trained(found, beside), _sha256(found, beside)
    try:
        stale = sha256_file(path) != sha256
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    if stale:
        log.warning("%s: describes other weights than %s (its sha256 differs) and is ignored", beside, path)
        return None
    return trained


def _read(beside: Path) -> Any:
    try:
        with open(beside, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise WeightsError(f"{beside}: cannot be read ({error.strerror})") from error
    if len(data) > _MOST_BYTES:
        raise _error(beside, f"is larger than {_MOST_BYTES >> 20} MiB")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _error(beside, "is not JSON") from error


def _trained(found: dict[str, Any], beside: Path) -> Trained:
    values: list[Any] = [found.get(key) for key in ("model", *_OWN)]
    model, classes, size, names = values
    if not _is_line(model):
        raise _error(beside, f"model is {quote(model)}, expected a preset's name")
    if not _is_whole(classes, _MOST_CLASSES):
        raise _error(beside, f"num_classes is {quote(classes)}, expected 1 to {_MOST_CLASSES}")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_whole(side, _MOST_PIXELS) for side in size):
        raise _error(beside, f"img_size is {quote(size)}, expected [height, width] of 1 to {_MOST_PIXELS} pixels")
    if not isinstance(names, list) or len(names) != classes:
        count = f"{len(names)} names" if isinstance(names, list) else quote(names)
        raise _error(beside, f"class_names is {count}, expected a list of {classes} names")
    for label, name in enumerate(names):
        if not _is_line(name):
            raise _error(beside, f"class_names[{label}] is {quote(name)}, expected a line of text")
    height, width = size
    return Trained(beside, model, classes, height if height == width else (height, width), tuple(names))


def _sha256(found: dict[str, Any], beside: Path) -> str:
    output = found.get("output")
    sha256 = output.get("sha256") if isinstance(output, dict) else None
    if not isinstance(sha256, str):
        raise _error(beside, f"output.sha256 is {quote(sha256)}, expected that of the weights")
    return sha256


def _is_whole(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_line(value: Any) -> bool:
    """Text that is one line of a file in UTF-8: without breaks, and without halves of characters."""
    if not isinstance(value, str) or not value.strip() or value.splitlines() != [value]:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _error(beside: Path, what: str) -> WeightsError:
    return WeightsError(
        f"{beside}: {what}; `paddle-cait finetune` writes this file: remove it to name the model and classes yourself"
    )
