"""Serve a page to explore what a model looks at: choose weights and model, drop a photograph, see the prediction and
every explanation, drag through layers and heads, click on patches, download the picture.

The page offers the checkpoints named here and no others; each is fitted to its presets by its tensors, or to --model.
Photographs stay on this machine, in a folder of their own, and are deleted after an hour. Only this machine can open
the page, unless --host says otherwise."""

from __future__ import annotations

import argparse
import logging
import os

from paddle_cait.app.texts import LANGUAGES
from paddle_cait.errors import ConfigError

EXAMPLE = "paddle-cait app --weights weights/ cait_xxs24_224.pth --port 7860"

log = logging.getLogger("paddle_cait")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--weights", metavar="PATH", nargs="+", required=True, help="checkpoints, or folders of them")
    what.add_argument("--model", metavar="NAME", help="the preset of the checkpoints that do not say it themselves")
    what.add_argument("--preset-file", metavar="FILE", help="YAML file of your own presets")
    what.add_argument("--img-size", type=int, help="the model's input in pixels, if not the preset's")
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="address to serve on (%(default)s: this machine alone)")
    where.add_argument("--port", type=int, default=7860, help="%(default)s")
    where.add_argument("--max-upload", type=float, default=20, metavar="MB", help="of a photograph (%(default)s)")
    where.add_argument("--lang", choices=LANGUAGES, help="of the page; default the machine's")
    how = parser.add_argument_group("how")
    how.add_argument("--device", default="auto", help="cpu, gpu, gpu:1 (%(default)s)")
    how.add_argument("--threads", type=int, metavar="N", help="of the CPU; default OMP_NUM_THREADS or all cores")


def run(args: argparse.Namespace) -> int:
    _check(args)
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    from paddle_cait.app.page import build
    from paddle_cait.app.serve import launch

    blocks = build(
        args.weights,
        model=args.model,
        preset_file=args.preset_file,
        img_size=args.img_size,
        max_upload=args.max_upload,
        device=args.device,
        lang=args.lang,
    )
    if args.host not in ("127.0.0.1", "localhost", "::1"):
        log.info("--host %s: whoever reaches this machine can open the page and use its processor", args.host)
    for talker in ("httpx", "fontTools"):  # gradio asks itself whether it runs; matplotlib writes a PDF
        logging.getLogger(talker).setLevel(logging.WARNING)
    launch(blocks, args.host, args.port, max_upload=args.max_upload)
    log.info("ended")
    return 0


def _check(args: argparse.Namespace) -> None:
    if not 0 < args.port < 65536:
        raise ConfigError(f"--port {args.port}: expected 1 to 65535")
    if not 0 < args.max_upload <= 1024:
        raise ConfigError(f"--max-upload {args.max_upload:g}: expected megabytes, more than 0 and at most 1024")
    if args.threads is not None and args.threads < 1:
        raise ConfigError(f"--threads {args.threads}: expected 1 or more")
