"""Import the bundled checkpoint, evaluate it on the bundled images, and check the count to the image.

The checkpoint is a small CaiT that PyTorch and timm trained on handwritten digits and stored in the authors' layout.
Its published accuracy is the count that PyTorch measured on the 360 held-out digits, and must be found again."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from paddle_cait import runtime
from paddle_cait.cli import eval_report
from paddle_cait.cli.common import add_json, write_json
from paddle_cait.engine.verdict import PASS
from paddle_cait.errors import PaddleCaitError
from paddle_cait.presets import config_dir, get_preset

EXAMPLE = "paddle-cait demo"
MODEL = "demo_cait_digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", metavar="DIR", help="the folder `pretrained` of a checkout; default beside the configs"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    preset = get_preset(MODEL)
    folder = Path(args.dir) if args.dir else config_dir().parent / "pretrained"
    official = folder / (preset.checkpoint.filename if preset.checkpoint else "")
    if not official.is_file():
        raise PaddleCaitError(
            f"{official}: the bundled checkpoint is not there; run the demo in a checkout, or give --dir"
        )
    runtime.prepare("cpu")
    from paddle_cait.conversion import convert
    from paddle_cait.data.loader import ImageDataset
    from paddle_cait.data.sources import open_source
    from paddle_cait.data.transforms import eval_transform
    from paddle_cait.engine.evaluate import evaluate
    from paddle_cait.factory import create_model

    with tempfile.TemporaryDirectory() as scratch:
        ours = Path(scratch) / f"{MODEL}.pdparams"
        print("1. import the checkpoint that PyTorch wrote")
        print(convert(official, ours, preset).summary())
        print("2. evaluate it on the held-out digits")
        images = folder / "demo_digits"
        source = open_source(images / "digits.tar", images / "val_list.txt", num_classes=preset.num_classes)
        model = create_model(preset, ours)
        result = evaluate(model, ImageDataset(source, eval_transform(preset)), workers=0)
        result.weights_file = official.name
    verdict = result.verdict(preset.published)
    print(eval_report.text(result, preset.published, verdict))
    row = eval_report.plain(result, preset, preset.published, verdict)
    print(f"3. measured beside published\n{eval_report.table([row])}")
    print(f"{verdict.status} in {time.perf_counter() - started:.1f} s")
    write_json(args, row)
    return 0 if verdict.status == PASS else 1
