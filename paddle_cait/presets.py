"""Presets: architecture, preprocessing, published numbers and checkpoint of every known set of weights.

Read from ``configs/models/*.yaml`` with the standard library and yaml alone, so that listing them is instant.
A preset is one *tag* (one set of weights) of one model name: ``cait_xxs24_224.fb_dist_in1k``. The bare name means the
first tag of the model in its file.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddle_cait.errors import PresetError
from paddle_cait.files import PathLike
from paddle_cait.yaml_files import build, merge, read_yaml, take

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
CROP_MODES = ("center", "squash")

# What a model class of each family takes from `arch`: name -> (type, required). One row a keyword of the class.
_VIT: dict[str, tuple[Any, bool]] = {
    "img_size": (int, True),
    "patch_size": (int, True),
    "in_chans": (int, False),
    "num_classes": (int, True),
    "embed_dim": (int, True),
    "depth": (int, True),
    "num_heads": (int, True),
    "mlp_ratio": (float, True),
    "act": (str, False),
    "resample": (str, False),
}
ARCH_FIELDS: dict[str, dict[str, tuple[Any, bool]]] = {
    "cait": {
        **{key: kind for key, kind in _VIT.items() if key not in ("act", "resample")},
        "depth_token_only": (int, True),
        "mlp_ratio_token_only": (float, True),
        "init_values": (float, True),
    },
    "vit": {**_VIT, "representation_size": (int, False)},
    "vit_hybrid": {
        **_VIT,
        "representation_size": (int, False),
        "backbone_layers": ((int, ...), True),
        "constants": (str, True),
    },
    "deit": {**_VIT, "distilled": (bool, False), "head_dist": (bool, False)},
    "deit3": {**_VIT, "init_values": (float, True)},
    "dino": _VIT,
    "gcvit": {
        **{key: _VIT[key] for key in ("img_size", "in_chans", "num_classes", "embed_dim", "mlp_ratio")},
        "depths": ((int, ...), True),
        "num_heads": ((int, ...), True),
        "init_values": (float, False),
    },
    "dinov2": {**_VIT, "init_values": (float, True), "num_register_tokens": (int, False), "ffn": (str, False)},
}
PROTOCOLS = ("classifier", "knn", "linear")
SETTINGS = ("official", "timm")  # the named ways to prepare images

# The other labelled sets on which timm measured the same files: name -> (images, timm's table).
OTHER_SETS = {
    "ImageNet-ReaL": (46837, "results-imagenet-real.csv"),
    "ImageNetV2": (10000, "results-imagenetv2-matched-frequency.csv"),
    "ImageNet-A": (7500, "results-imagenet-a.csv"),
    "ImageNet-R": (30000, "results-imagenet-r.csv"),
    "ImageNet-Sketch": (50889, "results-sketch.csv"),
}


@dataclass(frozen=True)
class Preprocess:
    """How a photograph becomes the model's input. Two settings that differ give accuracies that do not compare.

    ``img_size``: side of the input in pixels. ``crop_mode``: ``center``, the short side becomes ``floor(img_size /
    crop_pct)`` pixels (``crop_pct`` above 0, at most 1), then a centred square of ``img_size``; or ``squash``, straight
    to that square, losing the aspect ratio. ``interpolation``: nearest, bilinear, bicubic, lanczos, box or hamming,
    Pillow's filters. ``mean``, ``std``: of RGB in [0, 1]. Raises :class:`PresetError` for other values.
    """

    img_size: int
    crop_pct: float
    crop_mode: str
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.crop_mode not in CROP_MODES:
            raise PresetError(f"crop_mode is {self.crop_mode!r}, expected one of {', '.join(CROP_MODES)}")
        if self.interpolation not in INTERPOLATIONS:
            raise PresetError(f"interpolation is {self.interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}")
        if self.img_size < 1 or not 0 < self.crop_pct <= 1 or min(self.std) <= 0:
            raise PresetError(f"img_size >= 1, 0 < crop_pct <= 1 and std > 0 are expected, not {self}")


@dataclass(frozen=True)
class Published:
    """An accuracy somebody published for these weights (``source``: where), with everything needed to compare with it.

    ``top1`` and ``top5`` are percentages over ``n`` images under ``preprocess``; a measurement within ``tolerance``
    points of ``top1`` agrees with it, for the reason given in ``tolerance_reason``. ``protocol``: how a class was
    chosen: by the model's ``classifier``, by nearest neighbours (``knn``), or by a ``linear`` layer on features.
    ``dataset``: the labelled images; ``ILSVRC2012`` is the validation set. ``arch``: what was computed otherwise than
    the preset does (``act: gelu_tanh`` in Google's own numbers), for ``create_model`` when comparing.
    Raises :class:`PresetError` for another protocol.
    """

    top1: float
    source: str
    preprocess: Preprocess
    tolerance: float
    tolerance_reason: str
    top5: float | None = None
    n: int = 50000
    protocol: str = "classifier"
    dataset: str = "ILSVRC2012"
    arch: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise PresetError(f"protocol is {self.protocol!r}, expected one of {', '.join(PROTOCOLS)}")


@dataclass(frozen=True)
class CheckpointSource:
    """Where the authors' file comes from.

    ``filename`` is looked for in a weights folder; ``other_files`` are names of other files that hold these weights.
    ``url``: None where it has no address of its own. ``format``: how tensors are nested in it, for readers.
    ``sha256_prefix``: how its hash begins, where the authors published that; a download with another is refused.
    """

    filename: str
    url: str | None = None
    format: str | None = None
    sha256_prefix: str | None = None
    other_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preset:
    """One set of weights: ``tag`` of the model ``name``.

    ``family`` chooses the model class, ``arch`` holds its keywords. ``collection``: the YAML file it stands in, a suite
    of ``paddle-cait eval``. ``num_params``: of the built model, exactly. ``licence``: of the weights; ``paper``: its
    address. ``checkpoint``: the authors' file, if there is one. ``preprocess`` is what the weights' authors evaluate
    with, ``preprocess_timm`` what timm does where that differs; each published number says which one it belongs to:
    ``published``, which a measurement is compared with, and ``also_published``, what else was measured, also on
    other images.
    """

    name: str
    tag: str
    family: str
    collection: str
    arch: dict[str, Any] = field(compare=False)
    num_params: int
    preprocess: Preprocess
    licence: str
    paper: str
    published: Published | None = None
    also_published: tuple[Published, ...] = ()
    checkpoint: CheckpointSource | None = None
    preprocess_timm: Preprocess | None = None

    @property
    def full_name(self) -> str:
        """``NAME.TAG``, as reports and :func:`get_preset` have it."""
        return f"{self.name}.{self.tag}"

    @property
    def num_classes(self) -> int:
        """Of the weights; 0 for a backbone, which gives features."""
        return int(self.arch["num_classes"])

    @property
    def settings(self) -> dict[str, Preprocess]:
        """The named ways to prepare images: ``official`` and ``timm``, which may be one."""
        return {"official": self.preprocess, "timm": self.preprocess_timm or self.preprocess}

    def number(
        self, preprocess: Preprocess | None = None, protocol: str = "classifier", dataset: str = "ILSVRC2012"
    ) -> Published | None:
        """The number to compare with: of this protocol and these images, under ``preprocess`` if there is one."""
        numbers = [self.published, *self.also_published] if self.published else [*self.also_published]
        fitting = [n for n in numbers if (n.protocol, n.dataset) == (protocol, dataset)]
        like = [n for n in fitting if n.preprocess == preprocess]
        return next(iter(like or fitting), None)


def list_models(pattern: str = "*", preset_file: PathLike | None = None) -> list[str]:
    """Model names (without tags) that match a shell pattern such as ``cait_*``, in the order of the files.

    ``preset_file``: a YAML file of your own, whose models come first; :class:`PresetError` if it breaks the schema.
    """
    presets = _all_presets(preset_file)
    return fnmatch.filter(dict.fromkeys(p.name for p in presets.values()), pattern)


def list_presets(preset_file: PathLike | None = None) -> list[Preset]:
    """Every preset: all tags of all models."""
    return list(_all_presets(preset_file).values())


def get_preset(name: str, preset_file: PathLike | None = None) -> Preset:
    """The preset of ``name`` (its first tag) or ``name.tag``.

    Raises :class:`PresetError` for an unknown name, with the nearest known ones. Names in ``preset_file`` (a YAML
    file in the form of ``configs/models``) come before the packaged ones.
    """
    presets = _all_presets(preset_file)
    if name in presets:
        return presets[name]
    for preset in presets.values():
        if preset.name == name:
            return preset
    # Compared without underscores: other ports write cait_xxs_24 and cait_XXS24_224.
    squeezed = {known.replace("_", ""): known for p in presets.values() for known in (p.name, p.full_name)}
    wanted = str(name).replace("_", "").lower()
    near = [key for key in squeezed if key.startswith(wanted)] or difflib.get_close_matches(wanted, squeezed)
    hint = (
        f"did you mean {' or '.join(squeezed[key] for key in near[:3])}?"
        if near
        else "`paddle-cait list` shows all of them"
    )
    raise PresetError(f"unknown model {name!r}: {hint}")


def config_dir() -> Path:
    """The folder ``configs``: inside the installed package, or at the root of a checkout."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "configs"


def read_preset_file(path: PathLike) -> dict[str, Preset]:
    """All presets of one file, by full name. Any departure from the schema names the file and the preset."""
    content = read_yaml(path)
    top = take(content, str(path), {"family": str, "licence": str, "paper": str, "defaults": dict, "models": dict})
    if top["family"] not in ARCH_FIELDS:
        raise PresetError(f"{path}: family is {top['family']!r}, expected one of {', '.join(ARCH_FIELDS)}")
    presets = {}
    for name, model in top["models"].items():
        tags = model.get("tags") if isinstance(model, dict) else None
        if not isinstance(tags, dict) or not tags:
            raise PresetError(f"{path}: {name}: `tags` is missing: one entry for each set of weights is expected")
        shared = {key: value for key, value in model.items() if key != "tags"}
        for tag, entry in tags.items():
            where = f"{path}: {name}.{tag}"
            if not isinstance(entry, dict):
                raise PresetError(f"{where}: is {entry!r}, expected a mapping")
            merged = merge(merge(top["defaults"], shared), entry)
            preset = _preset(merged, where, str(name), str(tag), top, Path(path).stem)
            presets[preset.full_name] = preset
    return presets


def _preset(entry: dict[str, Any], where: str, name: str, tag: str, top: dict[str, Any], stem: str) -> Preset:
    fields = take(
        entry,
        where,
        {"arch": dict, "num_params": int, "preprocess": dict},
        {
            "preprocess_timm": dict,
            "published": dict,
            "also_published": list,
            "other_sets": dict,
            "checkpoint": dict,
            "licence": str,
            "paper": str,
            "tolerance": dict,
        },
    )
    settings = _settings(fields, where)
    numbers = _Numbers(settings, fields.get("tolerance", {}))
    return Preset(
        name=name,
        tag=tag,
        family=top["family"],
        collection=stem,
        arch=_arch(fields["arch"], top["family"], where),
        num_params=fields["num_params"],
        preprocess=settings["official"],
        preprocess_timm=settings.get("timm"),
        licence=fields.get("licence", top["licence"]),
        paper=fields.get("paper", top["paper"]),
        published=numbers.read(fields["published"], f"{where}: published") if "published" in fields else None,
        also_published=(
            *(
                numbers.read(number, f"{where}: also_published[{i}]")
                for i, number in enumerate(fields.get("also_published", []))
            ),
            *numbers.other_sets(fields.get("other_sets", {}), f"{where}: other_sets"),
        ),
        checkpoint=build(CheckpointSource, fields["checkpoint"], f"{where}: checkpoint")
        if "checkpoint" in fields
        else None,
    )


def _settings(fields: dict[str, Any], where: str) -> dict[str, Preprocess]:
    settings = {"official": build(Preprocess, fields["preprocess"], f"{where}: preprocess")}
    if "preprocess_timm" in fields:
        other = merge(fields["preprocess"], fields["preprocess_timm"])
        settings["timm"] = build(Preprocess, other, f"{where}: preprocess_timm")
    return settings


@dataclass(frozen=True)
class _Numbers:
    """Reads published numbers; ``preprocess`` of one is a setting's name, or what differs from the official one."""

    settings: dict[str, Preprocess]
    tolerance: dict[str, Any]

    def read(self, number: Any, where: str) -> Published:
        if not isinstance(number, dict):
            raise PresetError(f"{where}: is {number!r}, expected a mapping")
        own = number.get("preprocess", "official")
        if isinstance(own, dict):
            official = {key: getattr(self.settings["official"], key) for key in Preprocess.__dataclass_fields__}
            preprocess = build(Preprocess, merge(official, own), f"{where}: preprocess")
        elif own in self.settings:
            preprocess = self.settings[own]
        else:
            raise PresetError(f"{where}: preprocess is {own!r}, expected a mapping or {' or '.join(self.settings)}")
        values = {"tolerance": self.tolerance.get("points"), "tolerance_reason": self.tolerance.get("reason"), **number}
        values = {key: value for key, value in values.items() if value is not None}
        return build(Published, {**values, "preprocess": preprocess}, where, Preprocess=Preprocess)

    def other_sets(self, numbers: dict[str, Any], where: str) -> Iterator[Published]:
        """``NAME: [top1, top5]`` of :data:`OTHER_SETS`, measured by timm under its own preprocessing."""
        known: dict[str, Any] = dict.fromkeys(OTHER_SETS, (float, float))
        for dataset, (top1, top5) in take(numbers, where, {}, known).items():
            n, table = OTHER_SETS[dataset]
            number = {"top1": top1, "top5": top5, "dataset": dataset, "n": n, "source": f"timm results/{table}"}
            setting = "timm" if "timm" in self.settings else "official"
            yield self.read({**number, "preprocess": setting}, f"{where}: {dataset}")


def _arch(values: dict[str, Any], family: str, where: str) -> dict[str, Any]:
    table = ARCH_FIELDS[family]
    required = {key: kind for key, (kind, needed) in table.items() if needed}
    optional = {key: kind for key, (kind, needed) in table.items() if not needed}
    return take(values, f"{where}: arch", required, optional)


@functools.cache
def _packaged() -> dict[str, Preset]:
    presets: dict[str, Preset] = {}
    for path in sorted((config_dir() / "models").glob("*.yaml")):
        presets.update(read_preset_file(path))
    return presets


def _all_presets(preset_file: PathLike | None) -> dict[str, Preset]:
    packaged = _packaged()
    own = read_preset_file(preset_file) if preset_file else {}
    for name in own.keys() & packaged.keys():
        if own[name] != packaged[name]:
            raise PresetError(f"{preset_file}: {name}: a packaged preset of that name is another; choose another tag")
    return {**own, **packaged}
