"""Fine-tune a checkpoint on your own photographs.

The classifier is replaced by one for your classes. DATA holds train_list.txt and val_list.txt (`PATH LABEL` a line, as
PaddleClas has them; labels.txt names the classes), or folders train and val with one folder per class; `paddle-cait
split` makes the lists. OUTPUT gets the best and the last weights, log.csv, the classes' names, and a state from which
--resume continues after a kill to the same weights, bit for bit. In several processes:
python -m paddle.distributed.launch --nproc_per_node 2 tools/finetune.py ..."""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import Any

from paddle_cait.cli.common import add_config, add_json, fetch_official, write_json
from paddle_cait.errors import ConfigError

EXAMPLE = "paddle-cait finetune --model cait_xxs24_224 --weights XXS24_224.pth --data-dir flowers --epochs 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--model", help="preset; see `paddle-cait list`")
    what.add_argument("--checkpoint", "--weights", dest="weights", metavar="FILE", help="any supported checkpoint")
    what.add_argument("--entry", help="set of weights in a training checkpoint, such as model_ema")
    what.add_argument("--img-size", type=int, help="pixels; position tables are resampled")
    what.add_argument("--preset-file", metavar="FILE", help="YAML file of your own presets")
    data = parser.add_argument_group("data")
    data.add_argument("--data-dir", "--data", dest="data_dir", metavar="DIR")
    data.add_argument("--train-list", metavar="FILE", help="default DATA/train_list.txt")
    data.add_argument("--val-list", metavar="FILE", help="default DATA/val_list.txt")
    data.add_argument("--class-names", metavar="FILE", help="one a line; default DATA/labels.txt or the folders")
    data.add_argument("--on-error", choices=("stop", "skip"), default="stop", help="at an unreadable image")
    _add_schedule(parser.add_argument_group("schedule"))
    _add_optimisation(parser.add_argument_group("optimisation"))
    _add_augmentation(parser.add_argument_group("augmentation and loss"))
    _add_distillation(parser.add_argument_group("distillation"))
    run_ = parser.add_argument_group("run")
    run_.add_argument("--output-dir", default="output/finetune", metavar="DIR", help="%(default)s")
    run_.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    run_.add_argument("--checkpoint-updates", type=int, metavar="N", help="keep the state every N updates too")
    run_.add_argument("-j", "--workers", type=int, default=2, help="processes that prepare images (%(default)s)")
    run_.add_argument("--device", default="auto", help="cpu, gpu, gpu:1 (%(default)s)")
    run_.add_argument("--seed", type=int)
    run_.add_argument("--no-check", action="store_true", help="skip the look at the loaded backbone")
    run_.add_argument("--visualdl", action="store_true", help="also write VisualDL's scalars")
    add_json(run_)
    add_config(parser)


def _add_schedule(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int)
    group.add_argument("-b", "--batch-size", type=int, help="images of one process and step")
    group.add_argument("--grad-accum-steps", type=int, help="steps of one update")
    group.add_argument(
        "--lr", type=float, help="the highest rate; default --lr-base x images of an update / --lr-base-size"
    )
    group.add_argument("--lr-base", type=float)
    group.add_argument("--lr-base-size", type=int)
    group.add_argument("--warmup-epochs", type=float)
    group.add_argument("--warmup-lr", type=float)
    group.add_argument("--min-lr", type=float)
    group.add_argument("--sched-on-updates", type=_switch, metavar="BOOL", help="false: the rate changes once an epoch")


def _add_optimisation(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--weight-decay", type=float)
    group.add_argument("--layer-decay", type=float, help="each layer learns so much slower than the next")
    group.add_argument("--betas", type=float, nargs=2, metavar=("B1", "B2"))
    group.add_argument("--opt-eps", type=float)
    group.add_argument("--clip-grad", type=float, help="norm of all gradients; 0 switches it off")
    group.add_argument(
        "--tune",
        choices=("all", "head", "linear"),
        help="head: everything else is frozen; linear: fitted to features computed once",
    )
    group.add_argument("--drop-path", type=float, help="rate of stochastic depth")
    group.add_argument("--grad-checkpointing", action="store_true", default=None, help="less memory, more time")
    group.add_argument(
        "--amp", choices=("fp32", "bf16", "fp16", "auto"), help="auto: bf16 if the card has it, else fp16"
    )
    group.add_argument("--model-ema", action="store_true", default=None, help="keep a moving average, evaluate it")
    group.add_argument("--model-ema-decay", type=float)


def _add_augmentation(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--crop", choices=("rrc", "simple"))
    group.add_argument("--scale", type=float, nargs=2, metavar=("MIN", "MAX"), help="of the crop's area")
    group.add_argument("--ratio", type=float, nargs=2, metavar=("MIN", "MAX"), help="of the crop's sides")
    group.add_argument("--hflip", type=float)
    group.add_argument("--aa", metavar="POLICY", help="rand-m9-mstd0.5-inc1, three, none")
    group.add_argument("--color-jitter", type=float)
    group.add_argument("--train-interpolation", help="bicubic, bilinear, random, ...")
    group.add_argument("--reprob", type=float, help="probability of random erasing")
    group.add_argument("--remode", choices=("pixel", "rand", "const"))
    group.add_argument("--recount", type=int)
    group.add_argument("--repeated-aug", type=int, metavar="N", help="show each image N times in an epoch of fewer")
    group.add_argument("--mixup", type=float, help="alpha; 0 is off")
    group.add_argument("--cutmix", type=float, help="alpha; 0 is off")
    group.add_argument("--cutmix-minmax", type=float, nargs=2, metavar=("MIN", "MAX"))
    group.add_argument("--mixup-prob", type=float)
    group.add_argument("--mixup-switch-prob", type=float)
    group.add_argument("--mixup-mode", choices=("batch", "pair", "elem"))
    group.add_argument("--smoothing", type=float, help="of labels")
    group.add_argument("--loss", choices=("ce", "bce"))


def _add_distillation(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--distillation-type", choices=("none", "soft", "hard"))
    group.add_argument("--distillation-alpha", type=float)
    group.add_argument("--distillation-tau", type=float)
    group.add_argument("--teacher-model", help="preset of a classifier of the same classes")
    group.add_argument("--teacher-weights", metavar="FILE")


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"is {text!r}, expected true or false")
    return text.lower() == "true"


def run(args: argparse.Namespace) -> int:
    if not args.model or not args.data_dir:
        raise ConfigError("--model and --data-dir are needed; see the example of --help")
    fetch_official(args)
    from paddle_cait import runtime

    runtime.prepare(args.device)
    from paddle_cait.training.finetune import finetune

    result = finetune(
        args.model,
        args.data_dir,
        args.output_dir,
        args.weights,
        recipe_of(args),
        entry=args.entry,
        train_list=args.train_list,
        val_list=args.val_list,
        class_names=args.class_names,
        img_size=args.img_size,
        preset_file=args.preset_file,
        teacher_model=args.teacher_model,
        teacher_weights=args.teacher_weights,
        resume=args.resume,
        workers=args.workers,
        on_error=args.on_error,
        check=not args.no_check,
        visualdl=args.visualdl,
    )
    if os.environ.get("PADDLE_TRAINER_ID", "0") == "0":
        print("\n".join(result.lines))
        print(f"best top-1 {result.best_top1:.2f}% in epoch {result.best_epoch}: {result.best}")
        presets = f" --preset-file {args.preset_file}" if args.preset_file else ""
        print(f"export it: paddle-cait export --weights {result.best}{presets} --output-dir {result.folder / 'export'}")
        write_json(args, {"best_top1": result.best_top1, "best_epoch": result.best_epoch, "history": result.history})
    return 0


def recipe_of(args: argparse.Namespace) -> Any:
    """The flags that were given, over the defaults."""
    from paddle_cait.training.recipe import Recipe

    given = {key: tuple(value) if isinstance(value, list) else value for key, value in vars(args).items()}
    given["prob"], given["switch_prob"] = given.pop("mixup_prob"), given.pop("mixup_switch_prob")
    given["mode"], given["minmax"] = given.pop("mixup_mode"), given.pop("cutmix_minmax")
    recipe = Recipe(clip_grad=None) if given["clip_grad"] == 0 else Recipe()
    given["clip_grad"] = given["clip_grad"] or None
    given.update(mixup=_changed(recipe.mixup, given), augmentation=_changed(recipe.augmentation, given))
    return _changed(recipe, given)


def _changed(record: Any, given: dict[str, Any]) -> Any:
    fields = [field.name for field in dataclasses.fields(record)]
    return dataclasses.replace(record, **{key: given[key] for key in fields if given.get(key) is not None})
