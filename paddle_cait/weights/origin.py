"""Whose file is this? Weights of one architecture fit one another's presets; names and hashes tell them apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paddle_cait.files import PathLike
from paddle_cait.presets import Preset, list_presets


def origin_note(path: PathLike, sha256: str, meant: Preset | None) -> str | None:
    """One line where a file is known as another preset's than the one it is loaded for, else None.

    Known by its sha256 where the authors gave its beginning, by its name, or by the ``config.json`` that timm writes
    beside it on the Hugging Face hub.
    """
    if meant is None or meant.full_name not in {preset.full_name for preset in list_presets()}:
        return None
    for line, names in _evidence(path, sha256).items():
        if meant.full_name in names:
            return None  # the strongest evidence decides
        if names:
            known = line.format(" or ".join(names[:3]))
            return f"{known}, not of {meant.full_name}: the published numbers are not its"
    return None


def known_as(path: PathLike, sha256: str) -> list[str]:
    """What a file's hash, name and neighbour say of whose it is, a line each, the strongest first."""
    return [line.format(" or ".join(names[:3])) for line, names in _evidence(path, sha256).items() if names]


def _evidence(path: PathLike, sha256: str) -> dict[str, list[str]]:
    """Line with a place for names -> full names of the presets it speaks for."""
    presets, named, hub = list_presets(), Path(path).name, _hub_name(Path(path))
    return {
        f"its sha256 begins as that of {{}} ({sha256[:8]})": [p.full_name for p in presets if _hashed(p, sha256)],
        f"its name, {named}, is that of {{}}": [p.full_name for p in presets if named in _file_names(p)],
        "the config.json beside it says {}": [p.full_name for p in presets if p.full_name == hub],
    }


def _hashed(preset: Preset, sha256: str) -> bool:
    source = preset.checkpoint
    return bool(sha256 and source and source.sha256_prefix and sha256.startswith(source.sha256_prefix))


def _file_names(preset: Preset) -> tuple[str, ...]:
    return (preset.checkpoint.filename, *preset.checkpoint.other_files) if preset.checkpoint else ()


def _hub_name(path: Path) -> str | None:
    """``ARCHITECTURE.TAG`` of a timm repository's config.json; None where there is none, or it is something else."""
    try:
        config: Any = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        return f"{config['architecture']}.{config['pretrained_cfg']['tag']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
