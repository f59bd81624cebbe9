"""Show the presets: name, tag, parameters, input size, published accuracy with its source, licence."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
from typing import Any

from paddle_cait.cli import inspect_file
from paddle_cait.cli.common import add_json, write_json
from paddle_cait.errors import ConfigError
from paddle_cait.presets import Preset, list_presets

EXAMPLE = "paddle-cait list 'vit_base*' --fits ViT-B_16.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern over model names; default all")
    parser.add_argument("--family", help="only this one: cait, deit, deit3, dino, dinov2, vit, vit_hybrid, ...")
    parser.add_argument("--fits", metavar="FILE", help="only the presets that this checkpoint fits as it is")
    parser.add_argument("--preset-file", help="also a YAML file of your own, in the form of configs/models")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    presets = [p for p in list_presets(args.preset_file) if fnmatch.fnmatch(p.name, args.pattern)]
    if args.family:
        known = dict.fromkeys(p.family for p in list_presets(args.preset_file))
        if args.family not in known:
            raise ConfigError(f"--family {args.family}: unknown, expected one of {', '.join(known)}")
        presets = [p for p in presets if p.family == args.family]
    if args.fits:
        presets = _fitting(args, presets)
    rows = [("model", "tag", "params", "size", "top-1", "top-5", "published by", "licence"), *map(_row, presets)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    write_json(args, {"presets": [_plain(p) for p in presets]})
    return 0


def _fitting(args: argparse.Namespace, presets: list[Preset]) -> list[Preset]:
    fitting = inspect_file.inspect(args.fits, preset_file=args.preset_file)["fits"]
    found = [preset for preset in presets if preset.full_name in fitting]
    if not found:
        raise ConfigError(f"{args.fits}: fits none of these presets; `paddle-cait convert --inspect FILE` says why")
    return found


def _row(preset: Preset) -> tuple[str, ...]:
    number = preset.published
    size = str(preset.preprocess.img_size)
    about = (preset.name, preset.tag, f"{preset.num_params:,}", size)
    if number is None:
        return (*about, "-", "-", "-", preset.licence)
    protocol = "" if number.protocol == "classifier" else f" ({number.protocol})"
    top5 = "-" if number.top5 is None else f"{number.top5:.3f}"
    return (*about, f"{number.top1:.3f}{protocol}", top5, number.source, preset.licence)


def _plain(preset: Preset) -> dict[str, Any]:
    return {"full_name": preset.full_name, **dataclasses.asdict(preset)}
