"""Write a checkpoint as a model that Paddle Inference, onnxruntime and OpenVINO serve, and verify each of them.

The model is folded for inference, written in every format asked for, and run in its runtime at batch 1, 3 and 8. A file
that computes something else than the model ends the command with exit status 1 and leaves nothing behind. The folder
holds EXPORT.json (preprocessing, versions, sha256, checks), labels.txt and inference.yml; `paddle-cait predict` opens
it. int8 needs photographs to calibrate with. A checkpoint of `paddle-cait finetune` says its model, size and classes
itself: --weights is all it needs. Nothing is installed."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from paddle_cait import runtime
from paddle_cait.cli.common import CHECKPOINT, add_config, add_json, fetch_official, take_from_checkpoint, write_json
from paddle_cait.deploy.formats import KNOWN, parse_formats
from paddle_cait.deploy.manifest import FORMATS, Manifest
from paddle_cait.errors import ConfigError
from paddle_cait.presets import get_preset

EXAMPLE = (
    "paddle-cait export --model cait_xxs24_224 --weights XXS24_224.pth --formats paddle onnx openvino openvino:int8 "
    "--calib-dir ILSVRC2012/val"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--model", help="preset; see `paddle-cait list`; a fine-tuned checkpoint says it itself")
    what.add_argument("--checkpoint", "--weights", dest="weights", metavar="FILE", help=CHECKPOINT)
    what.add_argument("--entry", help="set of weights in a training checkpoint, such as model_ema")
    what.add_argument("--num-classes", type=int, help="classes of a fine-tuned checkpoint; 0 exports features")
    what.add_argument("--img-size", type=int, help="another input size: position tables are resampled")
    what.add_argument("--preset-file", metavar="FILE", help="YAML file of your own presets")
    out = parser.add_argument_group("output")
    out.add_argument("--output-dir", metavar="DIR", help="folder to write; default output/export/MODEL")
    out.add_argument(
        "--formats",
        nargs="+",
        metavar="FORMAT",
        help=f"some of {', '.join(KNOWN)}; default {', '.join(FORMATS)}, as far as they are installed",
    )
    out.add_argument(
        "--outputs",
        nargs="+",
        default=["logits"],
        choices=("logits", "probabilities", "features", "attention"),
        help="what the model returns, in this order (logits); probabilities for PaddleX and PaddleClas",
    )
    out.add_argument("--uint8-input", action="store_true", help="take pixels [B, H, W, 3]: mean and deviation fold in")
    out.add_argument("--class-names", metavar="FILE", help="one name a line; default the checkpoint's, or ImageNet's")
    out.add_argument("--overwrite", action="store_true", help="replace an earlier export in DIR")
    check = parser.add_argument_group("verification")
    check.add_argument("--verify-dir", metavar="DIR", help="photographs to compare on; default random images")
    check.add_argument("--verify-list", metavar="FILE", help="lines `FILE LABEL`: count right answers too")
    check.add_argument("--verify-images", type=int, default=16, metavar="N", help="%(default)s, spread evenly")
    int8 = parser.add_argument_group("int8")
    int8.add_argument("--calib-dir", metavar="DIR", help="photographs, such as those the model was trained on")
    int8.add_argument("--calib-images", type=int, default=300, metavar="N", help="%(default)s, spread evenly")
    run_ = parser.add_argument_group("run")
    run_.add_argument("--device", default="cpu", help="where the model itself runs: cpu, gpu, gpu:1 (%(default)s)")
    add_json(run_)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    fetch_official(args)
    trained = take_from_checkpoint(args, args.weights) if args.weights else None
    for flag, why in (("model", "the preset to export"), ("weights", "the checkpoint to export")):
        if not getattr(args, flag):
            raise ConfigError(f"--{flag} is missing: {why}")
    preset = get_preset(args.model, args.preset_file)  # a misspelt name is told before Paddle is loaded
    if args.formats:
        parse_formats(args.formats)
    runtime.prepare(args.device)
    from paddle_cait.deploy.exporter import export
    from paddle_cait.deploy.staging import check_target
    from paddle_cait.deploy.verify import VerificationError
    from paddle_cait.factory import create_model

    out_dir = args.output_dir or str(Path("output") / "export" / args.model)
    check_target(out_dir, args.overwrite)
    model = create_model(preset, args.weights, num_classes=args.num_classes, img_size=args.img_size, entry=args.entry)
    if trained is not None:
        model.load_report.notes.append("the weights were fine-tuned: the published numbers are not theirs")
    try:
        manifest = export(
            model,
            out_dir,
            args.formats,
            outputs=args.outputs,
            uint8_input=args.uint8_input,
            class_names=args.class_names,
            verify_dir=args.verify_dir,
            verify_list=args.verify_list,
            verify_images=args.verify_images,
            calib_dir=args.calib_dir,
            calib_images=args.calib_images,
            overwrite=args.overwrite,
        )
    except VerificationError as error:
        print(f"paddle-cait export: FAIL: {error}", file=sys.stderr)
        write_json(args, {"status": "FAIL", "model": preset.full_name, "reason": str(error)})
        return 1
    print(text(manifest, out_dir))
    write_json(args, {"status": "PASS", "output_dir": out_dir, **_plain(manifest)})
    return 0


def text(manifest: Manifest, out_dir: str) -> str:
    """What was written, one line a format, and how each was found to be right."""
    from paddle_cait.deploy.exporter import describe

    lines = [f"{manifest.model} -> {out_dir}"]
    for artifact in manifest.artifacts:
        found = "; ".join(describe(check) for check in artifact.checks)
        skipped = manifest.settings.get("not_verified", {}).get(artifact.name)
        verdict = f"NOT VERIFIED: {skipped}" if skipped else f"verified on {found}"
        lines.append(f"  {artifact.name:<13} {artifact.entry:<20} {artifact.num_bytes / 1e6:>8.1f} MB  {verdict}")
    if "onednn_note" in manifest.settings:
        lines.append(f"  paddle: {manifest.settings['onednn_note']}")
    lines.append(f"verified with {manifest.settings['verified_with']}")
    return "\n".join(lines)


def _plain(manifest: Manifest) -> dict[str, Any]:
    plain = dataclasses.asdict(manifest)
    plain["export_versions"] = plain.pop("versions")  # `versions` in a report are those of the machine that made it
    return plain
