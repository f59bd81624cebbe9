"""Name what is in photographs, by an exported folder in the fastest runtime installed, or by a checkpoint in Paddle.

IMAGE is a file, a folder (all images below it) or a pattern. Images are prepared exactly as in evaluation, which does
not look at the EXIF orientation: --exif turns photographs upright as their camera noted. A model without classes gives
features (JSON and CSV hold them). A checkpoint of `paddle-cait finetune` says its model and classes itself. Exit status
2 if no image could be read."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from paddle_cait.cli import predict_report as report
from paddle_cait.cli.common import add_config, add_json, write_json
from paddle_cait.deploy.inputs import find_images
from paddle_cait.deploy.predictor import Predictor, load_predictor
from paddle_cait.deploy.runtimes import ENGINES
from paddle_cait.deploy.sessions import PRECISIONS
from paddle_cait.errors import ConfigError, DataError
from paddle_cait.files import write_atomic

EXAMPLE = "paddle-cait predict out/cait_xxs24_224 photos/ 'more/*.jpg' --topk 3 --format csv --output found.csv"

_SHOWN = 10  # messages about unreadable images

log = logging.getLogger("paddle_cait")
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="DIR", help="what `paddle-cait export` wrote; or a checkpoint")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders, patterns")
    what = parser.add_argument_group("what")
    what.add_argument("--topk", type=int, default=5, metavar="K", help="the best K classes (%(default)s)")
    what.add_argument("--class-names", metavar="FILE", help="one name a line; default the source's own")
    what.add_argument("--exif", action="store_true", help="turn photographs as their EXIF orientation says")
    what.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop", help="at an unreadable image (%(default)s)"
    )
    what.add_argument("--model", metavar="NAME", help="of a checkpoint that does not say it: the preset")
    what.add_argument("--preset-file", metavar="FILE", help="of a checkpoint: YAML file of your own presets")
    what.add_argument(
        "--num-classes",
        type=int,
        help="of a checkpoint that does not say it; 0 gives features",
    )
    what.add_argument("--img-size", type=int, help="of a checkpoint: its input size if not the preset's")
    how = parser.add_argument_group("runtime (default: the fastest installed one that opens the folder, in fp32)")
    how.add_argument("--engine", choices=("auto", *ENGINES, "dygraph"), default="auto")
    how.add_argument("--artifact", metavar="NAME", help="onnx, openvino:int8, ...: one of the folder's")
    how.add_argument("--precision", choices=PRECISIONS, help="what is computed in; default the artifact's own")
    how.add_argument("--device", default="auto", help="cpu, gpu, gpu:1 (%(default)s: a GPU if a runtime sees one)")
    how.add_argument("--threads", type=int, metavar="N", help="of the CPU; default OMP_NUM_THREADS or all cores")
    how.add_argument("-b", "--batch-size", type=int, default=8, help="%(default)s")
    out = parser.add_argument_group("output")
    out.add_argument("--format", choices=tuple(report.FORMATS), help="default by --output's suffix, else table")
    out.add_argument("--output", metavar="FILE", help="default standard output")
    add_json(out)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    form = args.format or (Path(args.output).suffix[1:] if args.output else "table")
    if form not in report.FORMATS:
        raise ConfigError(f"--output {args.output}: give --format, one of {', '.join(report.FORMATS)}")
    items, _ = find_images(list(args.images))
    predictor = load_predictor(
        args.source,
        model=args.model,
        engine=None if args.engine == "auto" else args.engine,
        artifact=args.artifact,
        precision=args.precision,
        device=args.device,
        threads=args.threads,
        batch_size=args.batch_size,
        class_names=args.class_names,
        exif=args.exif,
        preset_file=args.preset_file,
        num_classes=args.num_classes,
        img_size=args.img_size,
    )
    print(predictor.describe(), file=sys.stderr, flush=True)
    found = list(_with_bar(_rows(predictor, items, args), len(items)))
    failed = [row["error"] for row in found if row["error"]]
    for message in failed[:_SHOWN]:
        print(f"skipped: {message}", file=sys.stderr)
    if len(failed) > _SHOWN:
        print(f"skipped: {len(failed) - _SHOWN} more; JSON and CSV name them", file=sys.stderr)
    if len(failed) == len(found):
        raise DataError(f"none of the {len(found)} images could be read")
    _say_turned(predictor)
    plain = {"model": predictor.session.manifest.model, "runtime": predictor.session.settings, "exif": args.exif}
    plain.update(preprocess=predictor.transform.describe(), predictions=found)
    text = report.FORMATS[form](found, plain)
    if args.output:
        write_atomic(args.output, text.encode())
    else:
        sys.stdout.write(text)
    write_json(args, plain)
    return 0


def _rows(predictor: Predictor, items: list[Any], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One plain row an image: its classes, or its features where the model has no classes."""
    if predictor.num_classes:
        for found in predictor.stream(items, args.topk, args.on_error):
            yield vars(found)
        return
    for item, outputs in predictor.compute(items, args.on_error):
        failed = isinstance(outputs, DataError)
        yield {
            "path": item.name,
            "features": [] if failed else predictor.feature(outputs).tolist(),
            "error": str(outputs) if failed else None,
        }


def _with_bar(rows: Iterable[T], total: int) -> Iterator[T]:
    with contextlib.closing(tqdm(total=total, unit="img", desc="predict", disable=None)) as bar:
        for row in rows:
            bar.update()
            yield row


def _say_turned(predictor: Predictor) -> None:
    count = len(predictor.turned)
    if count:
        marked = "1 photograph is" if count == 1 else f"{count} photographs are"
        log.info(f"{marked} marked as turned ({predictor.turned[0]}) and taken as stored, as in evaluation; see --exif")
