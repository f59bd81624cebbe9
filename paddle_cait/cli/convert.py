"""Import an official checkpoint (.pth, .npz, .safetensors, .onnx, .h5, .pdparams; by content), or write one back.

PyTorch is not needed and nothing in the file is executed. Every tensor is accounted for; a file that does not fit the
model is refused, and --inspect says which presets it fits. OUT appears whole or not at all, with OUT.json (source
sha256, layout, versions) beside it."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from paddle_cait import runtime
from paddle_cait.cli import inspect_file
from paddle_cait.cli.common import add_json, fetch_official, write_json
from paddle_cait.errors import ConfigError
from paddle_cait.presets import get_preset, list_presets
from paddle_cait.weights.store import DTYPES, LAYOUT_NAMES, check_output

EXAMPLE = "paddle-cait convert XXS24_224.pth pretrained/cait_xxs24_224.pdparams --model cait_xxs24_224"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="checkpoint to read")
    parser.add_argument(
        "output", nargs="?", help="file to write; its ending, .pdparams or .safetensors, chooses the format"
    )
    parser.add_argument("--model", help="preset the file is for; see `paddle-cait list`")
    parser.add_argument(
        "--inspect",
        action="store_true",
        help="write nothing: say what SOURCE holds, which presets it fits, why not others",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUT_NAMES,
        default="paddle",
        help="orientation of Linear weights: paddle [in, out], official [out, in]",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="keep", help="keep the file's precision, or write float32")
    parser.add_argument(
        "--entry", help="set of weights in a training checkpoint, such as model_ema; default the model's own"
    )
    parser.add_argument("--num-classes", type=int, help="of a fine-tuned file, if it differs from the preset's")
    parser.add_argument("--img-size", type=int, help="of a fine-tuned file, if it differs from the preset's")
    parser.add_argument("--preset-file", help="YAML file of your own presets")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.inspect:
        return _inspect(args)
    if not args.output or not args.model:
        raise ConfigError("OUTPUT and --model are missing: the file to write and its preset (or --inspect SOURCE)")
    return _convert(args)


def _inspect(args: argparse.Namespace) -> int:
    if args.output:
        raise ConfigError(f"{args.output}: --inspect writes nothing, give SOURCE alone")
    found = inspect_file.inspect(args.source, args.entry, args.preset_file)
    print(inspect_file.text(found, list_presets(args.preset_file)))
    write_json(args, found)
    return 0


def _convert(args: argparse.Namespace) -> int:
    check_output(args.output, args.layout, args.dtype)
    fetch_official(args, "source")
    preset = get_preset(args.model, args.preset_file)  # a misspelt name is told before Paddle is loaded
    runtime.prepare("cpu")
    from paddle_cait.conversion import convert

    started = time.perf_counter()
    report = convert(
        args.source,
        args.output,
        preset,
        layout=args.layout,
        dtype=args.dtype,
        entry=args.entry,
        num_classes=args.num_classes,
        img_size=args.img_size,
    )
    seconds = time.perf_counter() - started
    print(report.summary())
    size = Path(args.output).stat().st_size / 2**20
    print(
        f"wrote {args.output} ({size:.1f} MiB, {args.layout} layout) in {seconds:.1f} s; "
        f"licence of the weights: {preset.licence}"
    )
    write_json(args, {**dataclasses.asdict(report), "output": args.output, "seconds": seconds})
    return 0
