"""The runtimes in which ``eval`` computes logits: Paddle for a checkpoint, any of them for an exported folder."""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any

from paddle_cait import runtime
from paddle_cait.deploy.exported import ExportedModel, load_exported
from paddle_cait.deploy.runtimes import ENGINES
from paddle_cait.deploy.sessions import PRECISIONS
from paddle_cait.errors import ConfigError
from paddle_cait.presets import Preset

OF_CHECKPOINTS = ("dygraph", "static")
_LARGE = 1000  # images from which on an export's time is soon won back

log = logging.getLogger("paddle_cait")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "runtime (default: dygraph for a checkpoint; the fastest installed one, in fp32, for an exported folder)"
    )
    group.add_argument(
        "--engine",
        choices=(*OF_CHECKPOINTS, *ENGINES),
        help="of a checkpoint: dygraph, or static (paddle.jit.to_static); of an exported folder: the others",
    )
    group.add_argument("--artifact", metavar="NAME", help="onnx, openvino:int8, ...: one of the folder's")
    group.add_argument("--precision", choices=PRECISIONS, help="what is computed in; others than fp32 need a folder")
    group.add_argument("--threads", type=int, metavar="N", help="of the CPU; default OMP_NUM_THREADS or all cores")


def prepare(args: argparse.Namespace, device: str) -> None:
    """Paddle on a device, with the threads asked for."""
    if args.threads is not None:
        if args.threads < 1:
            raise ConfigError(f"--threads is {args.threads}, expected 1 or more")
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    runtime.prepare(device)


def check_checkpoint(args: argparse.Namespace, weights: str) -> None:
    """A checkpoint is run by Paddle in float32; one line for what needs an export."""
    wanted = args.engine if args.engine not in (None, *OF_CHECKPOINTS) else args.artifact
    if args.precision not in (None, "fp32"):
        wanted = wanted or args.precision
    if wanted:
        raise ConfigError(
            f"{weights}: is a checkpoint, run by dygraph or static in fp32; for {wanted} run `paddle-cait export` "
            "first and give its folder as --weights"
        )
    if args.engine == "static" and args.protocol != "classifier":
        raise ConfigError(f"--engine static computes logits: --protocol {args.protocol} needs dygraph")


def open_folder(args: argparse.Namespace) -> tuple[ExportedModel, Preset]:
    """The exported folder ``--weights`` and its preset; ``--num-classes`` becomes what the folder says."""
    for flag in ("entry", "resample", "num_classes"):
        if getattr(args, flag) is not None:
            raise ConfigError(f"--{flag.replace('_', '-')} belongs to a checkpoint: {args.weights} is exported")
    if args.protocol != "classifier":
        raise ConfigError(f"--protocol {args.protocol} needs the checkpoint: {args.weights} is exported")
    if args.engine in OF_CHECKPOINTS:
        raise ConfigError(f"--engine {args.engine} needs the checkpoint: {args.weights} is exported")
    prepare(args, "cpu" if args.engine in ("openvino", "onnxruntime") else args.device)  # the loader is Paddle's
    model = load_exported(
        args.weights,
        engine=args.engine,
        artifact=args.artifact,
        precision=args.precision,
        device=args.device,
        threads=args.threads,
        preset_file=args.preset_file,
    )
    if model.preset is None:
        raise ConfigError(f"{args.weights}: holds {model.label}, which is no preset: give its --preset-file")
    if args.model not in (None, model.label, model.preset.name):
        raise ConfigError(f"{args.weights}: holds {model.label}, not --model {args.model}")
    if model.num_classes != model.preset.num_classes:
        args.num_classes = model.num_classes
    return model, model.preset


def offer_export(plain: dict[str, Any]) -> None:
    """Said once after a long evaluation in dygraph on a CPU: exports in other runtimes were measured to be faster."""
    if plain.get("engine") == "dygraph" and plain["device"] == "cpu" and plain["n"] >= _LARGE:
        log.info(
            "on a CPU these weights evaluate faster as an export, in OpenVINO or onnxruntime: `paddle-cait export`, "
            "then --weights with its folder"
        )
