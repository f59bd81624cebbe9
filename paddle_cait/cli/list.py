"""Show the presets: name, tag, parameters, input size, published accuracy with its source, licence."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
from typing import Any

from paddle_cait.cli.common import add_json, write_json
from paddle_cait.presets import Preset, list_presets

EXAMPLE = "paddle-cait list 'cait_xx*'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern over model names; default all")
    parser.add_argument("--preset-file", help="also a YAML file of your own, in the form of configs/models")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    presets = [p for p in list_presets(args.preset_file) if fnmatch.fnmatch(p.name, args.pattern)]
    rows = [("model", "tag", "params", "size", "top-1", "top-5", "published by", "licence"), *map(_row, presets)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    write_json(args, {"presets": [_plain(p) for p in presets]})
    return 0


def _row(preset: Preset) -> tuple[str, ...]:
    number = preset.published
    top1, top5, source = (
        ("-", "-", "-") if number is None else (f"{number.top1:.3f}", f"{number.top5 or 0:.3f}", number.source)
    )
    size = str(preset.preprocess.img_size)
    return (preset.name, preset.tag, f"{preset.num_params:,}", size, top1, top5, source, preset.licence)


def _plain(preset: Preset) -> dict[str, Any]:
    return {"full_name": preset.full_name, **dataclasses.asdict(preset)}
