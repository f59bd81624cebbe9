from __future__ import annotations

import argparse
from pathlib import Path

from paddle_cait import runtime
from paddle_cait.cli.common import CHECKPOINT, add_config, add_json, fetch_official, write_json
from paddle_cait.cli.explain_files import is_file
from paddle_cait.errors import ConfigError
from paddle_cait.explain.catalogue import METHODS, OF_WEIGHTS

__doc__ = f"""Draw what a model looks at, in photographs or in a video.

{{methods}}

IMAGE is a file, a folder (all images below it) or a pattern; {", ".join(OF_WEIGHTS)} take none. The model
sees what it is evaluated with, a centred square; --fit whole shows it the whole photograph. Each image gives a picture
(PNG, PDF, SVG) or its numbers (npz); `distance` gives one picture of all images. docs/explain.md says what each method
means and what it does not. Exit status 2 if no image could be read.""".format(
    methods="\n".join(f"  {name:<16} {line}" for name, line in METHODS.items())
)

EXAMPLE = (
    "paddle-cait explain class-attention --model dinov2_vits14 --weights dinov2_vits14_pretrain.pth \\\n"
    "      --image photos/ --out pictures/ --format png npz"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", metavar="METHOD", choices=tuple(METHODS), help="see above")
    what = parser.add_argument_group("what")
    what.add_argument("--model", metavar="NAME", help="the preset; a fine-tuned checkpoint says it itself")
    what.add_argument("--weights", metavar="FILE", required=True, help=CHECKPOINT)
    what.add_argument("--image", metavar="IMAGE", nargs="+", default=[], help="files, folders, patterns")
    what.add_argument("--video", metavar=("IN", "OUT"), nargs=2, help="a video in place of images, with sound left out")
    what.add_argument("--out", metavar="PATH", help="a folder; or a file, for one picture")
    what.add_argument("--preset-file", metavar="FILE", help="YAML file of your own presets")
    what.add_argument(
        "--num-classes", type=int, help="of a fine-tuned checkpoint that does not say it; 0: no classifier"
    )
    what.add_argument("--class-names", metavar="FILE", help="one name a line; default the checkpoint's own")
    what.add_argument("--img-size", type=int, help="the model's input in pixels, if not the preset's")
    what.add_argument("--fit", choices=("crop", "whole"), help="default crop for images, whole for a video")
    what.add_argument("--exif", action="store_true", help="turn photographs as their EXIF orientation says")
    what.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop", help="at an unreadable image (%(default)s)"
    )
    _add_options(parser)
    _add_looks(parser)
    how = parser.add_argument_group("how")
    how.add_argument("--device", default="auto", help="cpu, gpu, gpu:1 (%(default)s)")
    how.add_argument("-b", "--batch-size", type=int, default=8, help="%(default)s")
    how.add_argument("--skip-existing", action="store_true", help="leave images alone whose pictures are there")
    add_json(how)
    add_config(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("of the method")
    how.add_argument(
        "--layer", metavar="LAYER", nargs="+", help="names, patterns (blocks.1?.attn) or places (-1 is the last)"
    )
    how.add_argument("--head", metavar="N", nargs="+", help="heads by number, or `mean`; default each")
    how.add_argument("--token", type=int, choices=(0, 1), help="0 the class token, 1 the distillation token")
    how.add_argument("--query", type=_place, metavar="ROW,COLUMN", help="the patch that looks, or place in the window")
    how.add_argument("--threshold", type=float, help="show the patches that hold this share of the attention (0.6)")
    how.add_argument(
        "--clip", type=float, metavar="PERCENTILE", help="where colours end, for maps with few extremes (99)"
    )
    how.add_argument("--head-fusion", choices=("mean", "max", "min"), default="mean", help="of rollout (%(default)s)")
    how.add_argument("--discard-ratio", type=float, default=0.0, help="of rollout: smallest weights to drop (0.9)")
    how.add_argument("--target", type=int, nargs="+", help="classes to explain; default the predicted one")
    how.add_argument("--level", type=int, default=-1, help="of grad-cam: GCViT's level, 0 to 3 (the last)")
    how.add_argument("--metric", choices=("cosine", "dot"), default="cosine", help="of positions (%(default)s)")


def _add_looks(parser: argparse.ArgumentParser) -> None:
    looks = parser.add_argument_group("looks")
    looks.add_argument("--format", nargs="+", choices=("png", "pdf", "svg", "npz"), help="default png")
    looks.add_argument("--dpi", type=int, default=200, help="%(default)s")
    looks.add_argument("--cmap", metavar="NAME", help="a colour map of matplotlib")
    looks.add_argument("--alpha", type=float, help="how much of the photograph the colours cover, 0 to 1")
    looks.add_argument("--interpolation", choices=("nearest", "bilinear", "bicubic"), help="between patches (bilinear)")
    looks.add_argument(
        "--scale", choices=("panel", "figure"), help="colours by panel (default) or for the whole picture"
    )
    film = parser.add_argument_group("of a video")
    film.add_argument("--smooth", type=float, default=0.6, help="weight of the frames before, 0 to 1 (%(default)s)")
    film.add_argument("--side-by-side", action="store_true", help="the original beside it")
    film.add_argument("--start", type=float, metavar="S", help="second to begin at")
    film.add_argument("--seconds", type=float, metavar="S", help="how long")
    film.add_argument("--every", type=int, default=1, metavar="N", help="each N-th frame only")


def run(args: argparse.Namespace) -> int:
    fetch_official(args)
    _check(args)
    runtime.prepare(args.device)
    from paddle_cait.cli import explain_run  # imports Paddle, as it was prepared

    result = explain_run.video(args) if args.video else explain_run.pictures(args)
    write_json(args, result)
    return 0


def _check(args: argparse.Namespace) -> None:
    """What can be said before anything is loaded."""
    if not Path(args.weights).is_file():
        raise ConfigError(f"--weights {args.weights}: no such file, expected a checkpoint")
    if args.method in OF_WEIGHTS:
        if args.image or args.video:
            raise ConfigError(f"{args.method} looks at the weights alone: leave out --image and --video")
    elif bool(args.image) == bool(args.video):
        raise ConfigError(f"{args.method} needs --image or --video" + (", not both" if args.image else ""))
    if args.video and args.method == "distance":
        raise ConfigError("distance is a diagram, not a picture of a frame: give images")
    if args.video and args.out:
        raise ConfigError("--video IN OUT says where the video goes: leave out --out")
    if not args.video and not args.out:
        raise ConfigError("--out is missing: a folder for the pictures, or a file")
    if args.out and args.format and is_file(args.out) and args.format != [Path(args.out).suffix[1:].lower()]:
        raise ConfigError(f"--out {args.out} is one file: leave out --format, or give a folder")


def _place(text: str) -> tuple[int, int]:
    row, comma, column = text.partition(",")
    if not (comma and row.strip().isdigit() and column.strip().isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}, expected ROW,COLUMN such as 7,3")
    return int(row), int(column)
