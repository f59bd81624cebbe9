"""Fetch the authors' checkpoints of presets, to be used by name: `create_model(NAME, weights="official")`.

An interrupted download goes on where it stopped. A file's sha256 is compared with what its authors publish, or else
with that of the first time, kept beside the file. Files lie in ~/.cache/paddle/paddle_cait/weights/PRESET/;
PADDLE_CAIT_HOME chooses another folder (on AI Studio one below /home/aistudio/work, which outlives the machine).
Proxies are those of https_proxy and no_proxy; HF_ENDPOINT is honoured for what lies on Hugging Face."""

from __future__ import annotations

import argparse
import fnmatch
import logging
import sys
from typing import Any

from paddle_cait.cli.common import add_json, write_json
from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.presets import Preset, get_preset, list_presets
from paddle_cait.weights.addresses import addresses
from paddle_cait.weights.cache import Official, official_path, official_weights
from paddle_cait.weights.download import in_words

EXAMPLE = "paddle-cait download cait_xxs24_224 'deit_*' --dry-run"
_CHECKED = {
    "published": "as its authors publish",
    "recorded": "as when it was first here",
    "first": "kept to compare with",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="preset, or pattern: 'cait_*' is the first tag of each, 'cait_*.*' all"
    )
    parser.add_argument("--dir", metavar="DIR", help="folder of the presets' folders, in place of the one named above")
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="copy of the authors' servers, asked for URL/PATH, then URL/FILE; default $PADDLE_CAIT_MIRROR",
    )
    parser.add_argument("--hub", action="store_true", help="use huggingface_hub, with its login, for what lies there")
    parser.add_argument("--force", action="store_true", help="download what is here already once more")
    parser.add_argument("--dry-run", action="store_true", help="say what would come from where, and ask no server")
    parser.add_argument("--preset-file", help="YAML file of your own presets")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    logging.getLogger().setLevel(logging.WARNING)  # of others than ours: huggingface_hub tells every request
    presets = _presets(args)
    rows: list[dict[str, Any]] = []
    for preset in presets:
        try:
            rows.append(_plan(args, preset) if args.dry_run else _download(args, preset))
        except PaddleCaitError as error:
            if len(presets) == 1:
                raise
            print(f"{preset.full_name}: error: {error}", file=sys.stderr)
            rows.append({"preset": preset.full_name, "error": str(error)})
    write_json(args, {"downloads": rows})
    failed = sum("error" in row for row in rows)
    if len(presets) > 1:
        print(f"{len(rows) - failed} of {len(rows)} presets" + (f", {failed} failed" if failed else ""))
    return 2 if failed else 0


def _presets(args: argparse.Namespace) -> list[Preset]:
    """Each preset once, in the order in which they were named."""
    every = list_presets(args.preset_file)
    found: dict[str, Preset] = {}
    for name in args.names:
        if any(sign in name for sign in "*?["):
            like = fnmatch.filter((p.full_name if "." in name else p.name for p in every), name)
            if not like:
                raise ConfigError(f"{name}: no preset's name is like this; `paddle-cait list` shows all of them")
        else:
            like = [name]
        for one in like:
            preset = get_preset(one, args.preset_file)
            found[preset.full_name] = preset
    return list(found.values())


def _download(args: argparse.Namespace, preset: Preset) -> dict[str, Any]:
    got = official_weights(preset, folder=args.dir, mirror=args.mirror, hub=args.hub, force=args.force)
    print(f"{got.path}: {in_words(got.size)}, sha256 {got.sha256}, {_CHECKED[got.checked]}", flush=True)
    return _plain(got)


def _plan(args: argparse.Namespace, preset: Preset) -> dict[str, Any]:
    path = official_path(preset, args.dir)
    row: dict[str, Any] = {"preset": preset.full_name, "path": str(path), "here": path.is_file()}
    print(f"{preset.full_name}: {'here' if row['here'] else 'absent'}, {path}, licence {preset.licence}")
    row["addresses"] = addresses(preset, args.mirror)
    for address in row["addresses"]:
        print(f"  {address}")
    return {**row, "licence": preset.licence}


def _plain(got: Official) -> dict[str, Any]:
    return {
        "preset": got.preset.full_name,
        "path": str(got.path),
        "bytes": got.size,
        "sha256": got.sha256,
        "checked": got.checked,
        "address": got.address,
        "licence": got.preset.licence,
    }
