"""The checkpoints that the page offers, and the presets that each of them fits."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.files import PathLike
from paddle_cait.presets import Preset, get_preset, list_presets
from paddle_cait.weights.identify import Fit, fits, in_canonical_names
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.trained import read_trained

log = logging.getLogger("paddle_cait")

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".npz", ".safetensors", ".pdparams", ".onnx", ".h5", ".keras")


@dataclass(frozen=True)
class Build:
    """A preset that a checkpoint fits, and the keywords of ``create_model`` with which it does."""

    preset: Preset
    keywords: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Offer:
    """A checkpoint. ``builds``: by the preset's full name, the likeliest first; ``class_names``: if it says them."""

    path: Path
    builds: dict[str, Build]
    class_names: tuple[str, ...] | None = None


def find_offers(
    given: Sequence[PathLike],
    model: str | None = None,
    preset_file: PathLike | None = None,
    img_size: int | None = None,
) -> dict[str, Offer]:
    """Name on the page -> offer, for each of ``given``: a checkpoint, or a folder of them.

    Args:
        model: the preset of the checkpoints that do not say it; None finds those that fit by the tensors' shapes.
        img_size: of the model's input, where a fine-tuned checkpoint does not say it.

    A file that is named must fit; of a folder, what fits nothing is left out with a warning. Raises
    :class:`PaddleCaitError` if nothing remains.
    """
    found: list[Offer] = []
    for path, named in _files(given):
        try:
            found.append(_offer(path, model, preset_file, img_size))
        except PaddleCaitError as error:
            if named:
                raise
            log.warning("not offered: %s", error)
    if not found:
        raise ConfigError(
            f"--weights {' '.join(map(str, given))}: no checkpoint among them, expected {' '.join(SUFFIXES)}"
        )
    return {_name(offer.path, found): offer for offer in found}


def _files(given: Sequence[PathLike]) -> Iterator[tuple[Path, bool]]:
    """Each file once, and whether it was named itself."""
    seen: set[Path] = set()
    for one in map(Path, given):
        if one.is_dir():
            pairs = [(path, False) for path in sorted(one.iterdir()) if path.suffix.lower() in SUFFIXES]
        elif one.is_file():
            pairs = [(one, True)]
        else:
            raise ConfigError(f"--weights {one}: no such file or folder")
        for path, named in pairs:
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path, named


def _offer(path: Path, model: str | None, preset_file: PathLike | None, img_size: int | None) -> Offer:
    trained = read_trained(path)
    if trained is not None:
        asked = {"model": None, "num_classes": None, "img_size": img_size, "preset_file": preset_file}
        keywords = {"img_size": img_size, **trained.complete(asked)}
        preset = get_preset(keywords.pop("model"), preset_file)
        return Offer(path, {preset.full_name: Build(preset, keywords)}, trained.class_names)
    presets = list_presets(preset_file) if model is None else [get_preset(model, preset_file)]
    size = {} if img_size is None else {"img_size": img_size}
    builds = {fit.preset.full_name: Build(fit.preset, {**_keywords(fit), **size}) for fit in _fitting(path, presets)}
    return Offer(path, builds)


def _fitting(path: Path, presets: list[Preset]) -> list[Fit]:
    """The presets that fit as they are; if none does, those that fit with other classes or another image size."""
    with open_checkpoint(path) as checkpoint:
        _, _, named = in_canonical_names(checkpoint)
        ordered = fits(named.shapes, presets)
    found = [fit for fit in ordered if not fit.differs] or [fit for fit in ordered if fit.adjustable]
    if not found:
        nearest = ordered[0]
        raise ConfigError(f"{path}: fits no preset; the nearest is {nearest.preset.full_name}, but {nearest}")
    # A file under its published name is most likely that one.
    return sorted(found, key=lambda fit: fit.preset.checkpoint is None or fit.preset.checkpoint.filename != path.name)


def _keywords(fit: Fit) -> dict[str, Any]:
    """``"num_classes=5, head_dist=False"`` as keywords."""
    pairs = [one.split("=") for one in fit.options.split(", ") if one]
    return {key: value == "True" if value in ("True", "False") else int(value) for key, value in pairs}


def _name(path: Path, found: list[Offer]) -> str:
    """The file's name, with as much of its folder as tells it from the others; never the whole path."""
    same = [offer.path for offer in found if offer.path.name == path.name]
    if len(same) == 1:
        return path.name
    if len({one.parent.name for one in same}) == len(same):
        return f"{path.parent.name}/{path.name}"
    return f"{path.name} ({same.index(path) + 1})"
