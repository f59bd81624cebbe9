"""YAML files read strictly: every key known, every value of its type, every mistake one line that says where."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from paddle_cait.errors import PresetError
from paddle_cait.files import PathLike


def read_yaml(path: PathLike) -> Any:
    """A YAML file's content; a duplicate key, a syntax error or a missing file is a :class:`PresetError`."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _StrictLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise PresetError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except yaml.YAMLError as error:
        raise PresetError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def build(cls: Any, values: Any, where: str, **kinds: Any) -> Any:
    """A dataclass from a mapping, checked field by field. ``kinds``: its annotations beyond :data:`FIELD_TYPES`."""
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for spec in dataclasses.fields(cls):
        needed = spec.default is spec.default_factory is dataclasses.MISSING
        (required if needed else optional)[spec.name] = {**FIELD_TYPES, **kinds}[str(spec.type)]
    try:
        return cls(**take(values, where, required, optional))
    except PresetError as error:
        raise PresetError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


# Annotations are strings here (postponed evaluation); the few that occur, with how a YAML value becomes one.
FIELD_TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "float | None": float,
    "str | None": str,
    "tuple[float, float, float]": (float, float, float),
    "tuple[str, ...]": (str, ...),
    "dict[str, Any]": dict,
}


def take(
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
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        hint = " (YAML reads 1e-5 as text: write 1.0e-5)" if kind is float and isinstance(value, str) else ""
        raise PresetError(f"{where}: is {value!r}, expected {kind.__name__}{hint}")
    return value


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``; nested mappings are merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


# The C loader, where there is one, is ten times faster.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_Loader):
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
