"""Presets: architecture, preprocessing, published numbers and checkpoint of every known set of weights.

Read from ``configs/models/*.yaml`` with the standard library and yaml alone, so that listing them is instant.
A preset is one *tag* (one set of weights) of one model name: ``cait_xxs24_224.fb_dist_in1k``. The bare name means the
first tag of the model in its file.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from paddle_cait.errors import PresetError
from paddle_cait.files import PathLike

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
CROP_MODES = ("center", "squash")

# What a model class of each family takes from `arch`: name -> (type, required). One row a keyword of the class.
ARCH_FIELDS: dict[str, dict[str, tuple[type, bool]]] = {
    "cait": {
        "img_size": (int, True),
        "patch_size": (int, True),
        "in_chans": (int, False),
        "num_classes": (int, True),
        "embed_dim": (int, True),
        "depth": (int, True),
        "num_heads": (int, True),
        "mlp_ratio": (float, True),
        "depth_token_only": (int, True),
        "mlp_ratio_token_only": (float, True),
        "init_values": (float, True),
    },
}


@dataclass(frozen=True)
class Preprocess:
    """How a photograph becomes the model's input. Two settings that differ give accuracies that do not compare.

    ``center``: the short side becomes ``floor(img_size / crop_pct)`` pixels, then a centred square of ``img_size``.
    ``squash``: straight to ``img_size`` x ``img_size``, losing the aspect ratio. ``mean``, ``std``: of RGB in [0, 1].
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
    """An accuracy somebody published for these weights, with everything needed to compare with it.

    ``top1`` and ``top5`` are percentages over ``n`` images under ``preprocess``; a measurement within ``tolerance``
    points of ``top1`` agrees with it, for the reason given in ``tolerance_reason``.
    """

    top1: float
    source: str
    preprocess: Preprocess
    tolerance: float
    tolerance_reason: str
    top5: float | None = None
    n: int = 50000


@dataclass(frozen=True)
class CheckpointSource:
    """Where the authors' file comes from. ``filename`` is looked for in a weights folder."""

    filename: str
    url: str | None = None
    format: str | None = None
    sha256_prefix: str | None = None
    other_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preset:
    """One set of weights: see the fields' classes. ``arch`` holds the model class's keywords."""

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

    @property
    def full_name(self) -> str:
        return f"{self.name}.{self.tag}"

    @property
    def num_classes(self) -> int:
        return int(self.arch["num_classes"])


def list_models(pattern: str = "*", preset_file: PathLike | None = None) -> list[str]:
    """Model names (without tags) that match a shell pattern such as ``cait_*``, in the order of the files."""
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


def read_yaml(path: PathLike) -> Any:
    """A YAML file's content; a duplicate key, a syntax error or a missing file is a :class:`PresetError`."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _StrictLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise PresetError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except yaml.YAMLError as error:
        raise PresetError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def read_preset_file(path: PathLike) -> dict[str, Preset]:
    """All presets of one file, by full name. Any departure from the schema names the file and the preset."""
    content = read_yaml(path)
    top = _take(content, str(path), {"family": str, "licence": str, "paper": str, "defaults": dict, "models": dict})
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
            merged = _merge(_merge(top["defaults"], shared), entry)
            preset = _preset(merged, where, str(name), str(tag), top, Path(path).stem)
            presets[preset.full_name] = preset
    return presets


def _preset(entry: dict[str, Any], where: str, name: str, tag: str, top: dict[str, Any], stem: str) -> Preset:
    fields = _take(
        entry,
        where,
        {"arch": dict, "num_params": int, "preprocess": dict},
        {
            "published": dict,
            "also_published": list,
            "checkpoint": dict,
            "licence": str,
            "paper": str,
            "tolerance": dict,
        },
    )
    preprocess = _build(Preprocess, fields["preprocess"], f"{where}: preprocess")
    tolerance = fields.get("tolerance", {})

    def published(number: Any, at: str) -> Published:
        if not isinstance(number, dict):
            raise PresetError(f"{at}: is {number!r}, expected a mapping")
        own = _merge(fields["preprocess"], number.get("preprocess", {}))
        rest = {"tolerance": tolerance.get("points"), "tolerance_reason": tolerance.get("reason"), **number}
        rest = {key: value for key, value in rest.items() if value is not None}
        return _build(Published, {**rest, "preprocess": _build(Preprocess, own, f"{at}: preprocess")}, at)

    return Preset(
        name=name,
        tag=tag,
        family=top["family"],
        collection=stem,
        arch=_arch(fields["arch"], top["family"], where),
        num_params=fields["num_params"],
        preprocess=preprocess,
        licence=fields.get("licence", top["licence"]),
        paper=fields.get("paper", top["paper"]),
        published=published(fields["published"], f"{where}: published") if "published" in fields else None,
        also_published=tuple(
            published(number, f"{where}: also_published[{i}]")
            for i, number in enumerate(fields.get("also_published", []))
        ),
        checkpoint=_build(CheckpointSource, fields["checkpoint"], f"{where}: checkpoint")
        if "checkpoint" in fields
        else None,
    )


def _arch(values: dict[str, Any], family: str, where: str) -> dict[str, Any]:
    table = ARCH_FIELDS[family]
    required = {key: kind for key, (kind, needed) in table.items() if needed}
    optional = {key: kind for key, (kind, needed) in table.items() if not needed}
    return _take(values, f"{where}: arch", required, optional)


def _build(cls: Any, values: Any, where: str) -> Any:
    """A dataclass from a mapping, checked field by field."""
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for spec in dataclasses.fields(cls):
        needed = spec.default is dataclasses.MISSING
        (required if needed else optional)[spec.name] = _FIELD_TYPES[str(spec.type)]
    try:
        return cls(**_take(values, where, required, optional))
    except PresetError as error:
        raise PresetError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


# Annotations are strings here (postponed evaluation); the few that occur, with how a YAML value becomes one.
_FIELD_TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "float | None": float,
    "str | None": str,
    "Preprocess": Preprocess,
    "tuple[float, float, float]": (float, float, float),
    "tuple[str, ...]": (str, ...),
}


def _take(
    values: Any, where: str, required: Mapping[str, Any], optional: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """``values`` with every key known, every required one there, and each value of its type."""
    if not isinstance(values, dict):
        raise PresetError(f"{where}: is {values!r}, expected a mapping")
    known = {**required, **(optional or {})}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise PresetError(f"{where}: unknown key {key!r}: {hint}")
    for key in required:
        if key not in values:
            raise PresetError(f"{where}: {key!r} is missing")
    return {key: _typed(value, known[key], f"{where}: {key}") for key, value in values.items()}


def _typed(value: Any, kind: Any, where: str) -> Any:
    if isinstance(kind, tuple):
        length = None if kind[1] is ... else len(kind)
        if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
            raise PresetError(f"{where}: is {value!r}, expected a list of {length or 'some'} {kind[0].__name__}s")
        return tuple(_typed(item, kind[0], where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        hint = " (YAML reads 1e-5 as text: write 1.0e-5)" if kind is float and isinstance(value, str) else ""
        raise PresetError(f"{where}: is {value!r}, expected {kind.__name__}{hint}")
    return value


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``; nested mappings are merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


@functools.cache
def _packaged() -> dict[str, Preset]:
    presets: dict[str, Preset] = {}
    for path in sorted((config_dir() / "models").glob("*.yaml")):
        presets.update(read_preset_file(path))
    return presets


def _all_presets(preset_file: PathLike | None) -> dict[str, Preset]:
    return {**read_preset_file(preset_file), **_packaged()} if preset_file else _packaged()


class _StrictLoader(yaml.SafeLoader):
    """yaml.SafeLoader that refuses a key given twice, where plain YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
