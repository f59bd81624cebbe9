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

from paddle_cait.cli.common import CHECKPOINT, add_config, add_json, fetch_official, take_from_checkpoint, write_json
from paddle_cait.errors import ConfigError

EXAMPLE = "paddle-cait finetune --model cait_xxs24_224 --weights XXS24_224.pth --data-dir flowers --epochs 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--model", help="preset; see `paddle-cait list`; a fine-tuned checkpoint says it itself")
    what.add_argument(
        "--checkpoint",
        "--weights",
        dest="weights",
        metavar="FILE",
        help=f"{CHECKPOINT}; default none, random weights",
    )
    what.add_argument("--entry", help="set of weights in a training checkpoint, such as model_ema")
    what.add_argument("--img-size", type=int, help="pixels; position tables are resampled")
    what.add_argument("--preset-file", metavar="FILE", help="YAML file of your own presets")
    data = parser.add_argument_group("data")
    data.add_argument("--data-dir", "--data", dest="data_dir", metavar="DIR", help="lists, or train and val")
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
    run_.add_argument(
        "--checkpoint-updates",
        type=int,
        metavar="N",
        help="keep the state every N updates too, not only after each epoch (0)",
    )
    run_.add_argument("-j", "--workers", type=int, default=2, help="processes that prepare images (%(default)s)")
    run_.add_argument("--device", default="auto", help="cpu, gpu, gpu:1 (%(default)s)")
    run_.add_argument("--seed", type=int, metavar="N", help="of all that is random (0)")
    run_.add_argument("--no-check", action="store_true", help="skip the look at the loaded backbone")
    run_.add_argument("--visualdl", action="store_true", help="also write VisualDL's scalars")
    add_json(run_)
    add_config(parser)


# In brackets the default, which is Recipe's: a flag that is not given is None here, so that a YAML file can say it.
def _add_schedule(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, metavar="N", help="passes over the training list (20)")
    group.add_argument("-b", "--batch-size", type=int, metavar="N", help="images of one process and step (32)")
    group.add_argument("--grad-accum-steps", type=int, metavar="N", help="steps of one update (1)")
    group.add_argument(
        "--lr",
        type=float,
        help="the highest rate; default --lr-base x images of an update / --lr-base-size",
    )
    group.add_argument(
        "--lr-base", type=float, metavar="LR", help="the highest rate for --lr-base-size images (0.0005)"
    )
    group.add_argument("--lr-base-size", type=int, metavar="N", help="images of an update that --lr-base is for (256)")
    group.add_argument("--warmup-epochs", type=float, metavar="N", help="in which the rate rises to the highest (2)")
    group.add_argument("--warmup-lr", type=float, metavar="LR", help="where it starts (1e-06)")
    group.add_argument("--min-lr", type=float, metavar="LR", help="where it ends, by half a cosine (1e-06)")
    group.add_argument(
        "--sched-on-updates", type=_switch, metavar="BOOL", help="false: the rate changes once an epoch (true)"
    )


def _add_optimisation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--weight-decay", type=float, metavar="WD", help="AdamW's; vectors, tokens and tables do not decay (0.05)"
    )
    group.add_argument(
        "--layer-decay", type=float, metavar="D", help="each layer learns at this times the next one's rate; default 1"
    )
    group.add_argument("--betas", type=float, nargs=2, metavar=("B1", "B2"), help="AdamW's (0.9 0.999)")
    group.add_argument("--opt-eps", type=float, metavar="EPS", help="AdamW's (1e-08)")
    group.add_argument(
        "--clip-grad", type=float, metavar="NORM", help="most that all gradients have together; 0 switches it off (1)"
    )
    group.add_argument(
        "--tune",
        choices=("all", "head", "linear"),
        help="head: everything else is frozen; linear: fitted to features computed once (all)",
    )
    group.add_argument("--drop-path", type=float, metavar="RATE", help="stochastic depth (0.1)")
    group.add_argument("--grad-checkpointing", action="store_true", default=None, help="less memory, more time")
    group.add_argument(
        "--amp", choices=("fp32", "bf16", "fp16", "auto"), help="auto: bf16 if the card has it, else fp16 (fp32)"
    )
    group.add_argument("--model-ema", action="store_true", default=None, help="keep a moving average, evaluate it")
    group.add_argument("--model-ema-decay", type=float, metavar="D", help="what an update leaves of it (0.9998)")


def _add_augmentation(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--crop", choices=("rrc", "simple"), help="a random part; DeiT III's simple crop (rrc)")
    group.add_argument("--scale", type=float, nargs=2, metavar=("MIN", "MAX"), help="of the part's area (0.08 1)")
    group.add_argument("--ratio", type=float, nargs=2, metavar=("MIN", "MAX"), help="width / height (0.75 1.33333)")
    group.add_argument("--hflip", type=float, metavar="P", help="probability of mirroring left to right (0.5)")
    group.add_argument(
        "--aa", metavar="POLICY", help="RandAugment in timm's notation, three, or none (rand-m9-mstd0.5-inc1)"
    )
    group.add_argument(
        "--color-jitter", type=float, metavar="J", help="with --aa three or none: colours by 1 +- this (0.3)"
    )
    group.add_argument(
        "--train-interpolation", metavar="FILTER", help="bicubic, bilinear, ... or random of both (bicubic)"
    )
    group.add_argument("--reprob", type=float, metavar="P", help="probability of random erasing (0.25)")
    group.add_argument("--remode", choices=("pixel", "rand", "const"), help="what fills the erased (pixel)")
    group.add_argument("--recount", type=int, metavar="N", help="rectangles that share the erased area (1)")
    group.add_argument("--repeated-aug", type=int, metavar="N", help="show each image N times in an epoch of fewer (1)")
    group.add_argument("--mixup", type=float, metavar="ALPHA", help="0 is off (0)")
    group.add_argument("--cutmix", type=float, metavar="ALPHA", help="0 is off (0)")
    group.add_argument(
        "--cutmix-minmax", type=float, nargs=2, metavar=("MIN", "MAX"), help="sides of the part, in place of ALPHA"
    )
    group.add_argument("--mixup-prob", type=float, metavar="P", help="of mixing a batch at all (1)")
    group.add_argument("--mixup-switch-prob", type=float, metavar="P", help="of CutMix where both are on (0.5)")
    group.add_argument("--mixup-mode", choices=("batch", "pair", "elem"), help="what is mixed alike (batch)")
    group.add_argument("--smoothing", type=float, metavar="S", help="of labels (0.1)")
    group.add_argument("--loss", choices=("ce", "bce"), help="cross-entropy; DeiT III's binary one (ce)")


def _add_distillation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--distillation-type",
        choices=("none", "soft", "hard"),
        help="learn the teacher's distribution, or its best class (none)",
    )
    group.add_argument("--distillation-alpha", type=float, metavar="SHARE", help="the teacher's, of the loss (0.5)")
    group.add_argument("--distillation-tau", type=float, metavar="T", help="temperature of soft (1)")
    group.add_argument("--teacher-model", metavar="NAME", help="preset of a classifier of the same classes")
    group.add_argument("--teacher-weights", metavar="FILE", help="its checkpoint")


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"is {text!r}, expected true or false")
    return text.lower() == "true"


def run(args: argparse.Namespace) -> int:
    fetch_official(args)
    if args.weights:
        take_from_checkpoint(args, args.weights, but=("class_names",))  # those are the new data's
    if not args.data_dir:
        raise ConfigError("--data-dir is missing: the folder with your photographs")
    if not args.model:
        raise ConfigError("--model is missing: the preset to train; see `paddle-cait list`")
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
