"""Measure a checkpoint's accuracy over labelled images and judge it against the published number.

Counts are integers over exactly the images listed. The verdict is PASS, FAIL (exit status 1), or NOT COMPARABLE with
the reason: a part of the images, another preprocessing, skipped files. Backbones without a classifier are measured by
--protocol knn or linear; ImageNet-ReaL, ImageNetV2, -A, -R and -Sketch are judged by their own numbers. --suite
evaluates every model of a family whose file lies in --weights-dir. An exported folder is evaluated like its checkpoint,
in any runtime and precision it was exported for: --weights FOLDER. A checkpoint of `paddle-cait finetune` says its
model, size and classes itself; no number was published for it. In several processes:
python -m paddle.distributed.launch --nproc_per_node 2 tools/eval.py ..."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from paddle_cait.cli import eval_engines as engines
from paddle_cait.cli import eval_protocols as protocols
from paddle_cait.cli import eval_report as report
from paddle_cait.cli.common import CHECKPOINT, add_config, add_json, fetch_official, take_from_checkpoint, write_json
from paddle_cait.cli.eval_run import measure
from paddle_cait.data.label_sets import CLASS_SUBSETS
from paddle_cait.engine.verdict import FAIL
from paddle_cait.errors import ConfigError, WeightsError
from paddle_cait.presets import CROP_MODES, INTERPOLATIONS, SETTINGS, Preset, get_preset, list_presets

EXAMPLE = "paddle-cait eval --model cait_xxs24_224 --weights XXS24_224.pth --data ILSVRC2012/val --list val_list.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--model", help="preset; see `paddle-cait list`; a fine-tuned checkpoint says it itself")
    what.add_argument(
        "--checkpoint",
        "--weights",
        dest="weights",
        metavar="FILE",
        help=f"{CHECKPOINT}; or a folder that `paddle-cait export` wrote, which needs no --model",
    )
    what.add_argument("--entry", help="set of weights in a training checkpoint, such as model_ema")
    what.add_argument("--num-classes", type=int, help="classes of a fine-tuned checkpoint")
    what.add_argument("--preset-file", metavar="FILE", help="YAML file of your own presets")
    what.add_argument(
        "--suite", metavar="FAMILY", help="instead of --model: cait, demo, ... every preset of the family"
    )
    what.add_argument(
        "--weights-dir", default="pretrained", metavar="DIR", help="with --suite: where the files lie (%(default)s)"
    )
    images = parser.add_argument_group("images")
    images.add_argument(
        "--data-dir", "--data", dest="data", metavar="DIR", help="image folder, class folders, or the un-extracted .tar"
    )
    images.add_argument("--list", metavar="FILE", help="lines `FILE LABEL`; default DATA/val_list.txt if it is there")
    images.add_argument("--ground-truth", metavar="FILE", help="the devkit's ILSVRC2012_validation_ground_truth.txt")
    images.add_argument("--limit", type=int, metavar="N", help="only N images, spread evenly over the list")
    images.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop", help="at an unreadable image (%(default)s)"
    )
    labels = parser.add_argument_group("labels (default: one an image; ImageNetV2, -A, -R and -Sketch are recognised)")
    labels.add_argument(
        "--real-labels", metavar="real.json", help="ImageNet-ReaL: several labels or none for each validation image"
    )
    labels.add_argument(
        "--class-subset",
        choices=CLASS_SUBSETS,
        default="auto",
        help="seek the best class among: the 200 of ImageNet-A or -R where the data is theirs, else all; "
        "all; those present in the data (%(default)s)",
    )
    protocols.add_arguments(parser)
    how = parser.add_argument_group(
        "preprocessing (default: that of the published number; another one makes the verdict NOT COMPARABLE)"
    )
    how.add_argument(
        "--preprocess", choices=SETTINGS, help="the weights' authors' setting or timm's, each judged by its own number"
    )
    how.add_argument("--img-size", type=int)
    how.add_argument("--resample", metavar="RULE", help="of position tables at another size; default the family's own")
    how.add_argument("--crop-pct", type=float)
    how.add_argument("--crop-mode", choices=CROP_MODES)
    how.add_argument("--interpolation", choices=INTERPOLATIONS)
    how.add_argument("--mean", type=float, nargs=3)
    how.add_argument("--std", type=float, nargs=3)
    how.add_argument(
        "--backend", choices=("pillow", "cv2"), default="pillow", help="cv2 is not comparable (%(default)s)"
    )
    engines.add_arguments(parser)
    run_ = parser.add_argument_group("run")
    run_.add_argument("-b", "--batch-size", type=int, default=64, help="%(default)s")
    run_.add_argument("-j", "--workers", type=int, default=2, help="processes that decode images (%(default)s)")
    run_.add_argument("--device", default="auto", help="cpu, gpu, gpu:1 (%(default)s: the first GPU if there is one)")
    run_.add_argument("--output-dir", default="output/eval", metavar="DIR", help="progress and tables (%(default)s)")
    run_.add_argument("--resume", action="store_true", help="continue the same evaluation after a kill")
    run_.add_argument("--predictions", metavar="FILE.csv", help="one row an image: label, best five classes, loss")
    add_json(run_)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    if not args.data:
        raise ConfigError("--data is missing: the folder with the images")
    if args.protocol != "classifier" and args.num_classes is not None:
        raise ConfigError(f"--num-classes belongs to a classifier, not to --protocol {args.protocol}")
    fetch_official(args)
    exported = bool(args.weights) and Path(args.weights).is_dir()
    if args.weights and not args.suite:
        _take_from_checkpoint(args)
    if bool(args.model or exported) == bool(args.suite):
        raise ConfigError("give --model NAME or --suite FAMILY, one of the two")
    return _suite(args) if args.suite else _single(args, exported)


def _take_from_checkpoint(args: argparse.Namespace) -> None:
    take_from_checkpoint(args, args.weights)
    if isinstance(args.img_size, tuple):
        height, width = args.img_size
        raise ConfigError(f"{args.weights}: takes {height}x{width} pixels; images are prepared as squares only")


def _single(args: argparse.Namespace, exported: bool) -> int:
    model = None
    if exported:
        model, preset = engines.open_folder(args)
    else:
        preset = get_preset(args.model, args.preset_file)
        if not args.weights:
            raise ConfigError("--weights is missing: the checkpoint to evaluate")
    outcome = measure(args, preset, args.weights, model)
    if _is_first_process():
        print(outcome.text)
        if args.predictions:
            report.write_predictions(args.predictions, outcome.rows, outcome.names)
        write_json(args, outcome.plain)
        engines.offer_export(outcome.plain)
    return 1 if outcome.verdict.status == FAIL else 0


def _suite(args: argparse.Namespace) -> int:
    """Every preset whose file is there. A file that does not fit its preset is a row too, and the rest goes on."""
    presets = [p for p in list_presets(args.preset_file) if p.collection == args.suite]
    if not presets:
        known = dict.fromkeys(p.collection for p in list_presets(args.preset_file))
        raise ConfigError(f"--suite {args.suite}: unknown family, expected one of {', '.join(known)}")
    if args.weights or args.predictions or args.img_size:
        raise ConfigError("--weights, --predictions and --img-size belong to one model, not to a --suite")
    found = [(preset, _find_weights(preset, presets, Path(args.weights_dir))) for preset in presets]
    if not any(file for _, file in found):
        names = ", ".join(_candidates(presets[0], presets))
        raise ConfigError(
            f"{args.weights_dir}: holds no file of the {args.suite} presets; for {presets[0].name} one of {names}"
        )
    rows: list[dict[str, Any]] = []
    for preset, file in found:
        rows.append(_suite_row(args, preset, file))
        if _is_first_process():  # what is done survives a kill
            report.write_table(Path(args.output_dir) / f"suite-{args.suite}", rows)
    if _is_first_process():
        print(report.table(rows))
        print(f"wrote {Path(args.output_dir) / f'suite-{args.suite}'}.md and .json")
        write_json(args, {"suite": args.suite, "results": rows})
    statuses = {row["verdict"]["status"] for row in rows}
    return 2 if report.NO_FIT in statuses else 1 if FAIL in statuses else 0


def _suite_row(args: argparse.Namespace, preset: Preset, file: Path | None) -> dict[str, Any]:
    if file is None:
        return report.absent(preset)
    try:
        outcome = measure(args, preset, str(file))
    except WeightsError as error:
        print(f"{preset.full_name}: error: {error}", file=sys.stderr)
        return report.absent(preset, report.NO_FIT, str(error))
    if _is_first_process():
        print(outcome.text, flush=True)
    return outcome.plain


def _find_weights(preset: Preset, family: list[Preset], folder: Path) -> Path | None:
    return next((folder / name for name in _candidates(preset, family) if (folder / name).is_file()), None)


def _candidates(preset: Preset, family: list[Preset]) -> list[str]:
    """File names under which a preset's weights may lie: converted ones first, then the authors', then other ports'."""
    stems = [preset.full_name]
    if preset is next(p for p in family if p.name == preset.name):  # a bare name means the first tag
        stems.append(preset.name)
    names = [f"{stem}{suffix}" for stem in stems for suffix in (".pdparams", ".safetensors")]
    source = preset.checkpoint
    if source is None:
        return names
    return [
        *names,
        f"{preset.full_name}/{source.filename}",  # as `paddle-cait download` lays them out
        source.filename,
        *source.other_files,
    ]


def _is_first_process() -> bool:
    return os.environ.get("PADDLE_TRAINER_ID", "0") == "0"
