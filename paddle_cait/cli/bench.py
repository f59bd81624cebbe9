"""Measure one model's throughput and latency in every engine, beside timm's in the same run.

All engines get the same weights and images and must first compute the same logits; each runs in a process of its own,
one at a time, with equal threads, in rounds that take turns. The numbers are medians over rounds, ratios are taken
round by round. Engines and peers that are not installed are left out with the reason. Other --steps measure a training
step, or the input pipeline; --forms compares the ways to mix CaiT's heads. Measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paddle_cait import runtime
from paddle_cait.bench import figures, report
from paddle_cait.bench.cases import ENGINES, PEERS, PRECISIONS, STEPS
from paddle_cait.bench.run import Settings, bench
from paddle_cait.cli.common import CHECKPOINT, add_config, add_json, fetch_official, write_json
from paddle_cait.errors import ConfigError
from paddle_cait.files import write_atomic

EXAMPLE = "paddle-cait bench --model cait_xxs24_224 --batch-sizes 1 8 --quiet-wait 300 --output bench.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--model", help="preset; see `paddle-cait list`")
    what.add_argument(
        "--checkpoint", "--weights", dest="weights", metavar="FILE", help=f"{CHECKPOINT}; default drawn ones"
    )
    what.add_argument("--entry", help="set of weights in a training checkpoint, such as model_ema")
    what.add_argument("--preset-file", metavar="FILE", help="YAML file of your own presets")
    what.add_argument("--steps", choices=STEPS, default="inference", help="what is timed (%(default)s)")
    what.add_argument("--forms", action="store_true", help="compare the ways to mix CaiT's heads in each runtime")
    who = parser.add_argument_group("engines")
    who.add_argument("--engines", nargs="*", default=list(ENGINES), metavar="ENGINE", help=_some(ENGINES))
    who.add_argument("--peers", nargs="*", default=list(PEERS), metavar="PEER", help=f"timm's: {_some(PEERS)}")
    who.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS, help="all of them")
    who.add_argument("-b", "--batch-sizes", nargs="+", type=int, default=[1, 8], metavar="N", help="1 8")
    who.add_argument("--threads", type=int, help="of every engine; default all cores")
    how = parser.add_argument_group("measuring")
    how.add_argument("--rounds", type=int, default=7, help="%(default)s")
    how.add_argument("--seconds", type=float, default=1.0, help="of each engine in each round (%(default)s)")
    how.add_argument(
        "--quiet-wait", type=float, default=0.0, metavar="S", help="wait for a load below 0.3, at most so long"
    )
    how.add_argument(
        "--ceiling", type=int, default=4096, metavar="SIDE", help="of the large product; 0 leaves it out (%(default)s)"
    )
    data = parser.add_argument_group("files")
    data.add_argument("--data-dir", metavar="DIR", help="JPEG files, for --steps pipeline")
    data.add_argument("--calib-dir", metavar="DIR", help="photographs to calibrate int8 with; without it no int8")
    data.add_argument("--calib-images", type=int, default=300, metavar="N", help="%(default)s, spread evenly")
    data.add_argument("--export-dir", metavar="DIR", help="keep exported files here, and take them from here")
    data.add_argument("--output", metavar="FILE.md", help="a page with the tables")
    add_json(data)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    if not args.model:
        raise ConfigError("--model is missing: the preset to measure")
    for name, least in (("rounds", 1), ("threads", 1), ("ceiling", 0), ("seconds", 0), ("quiet_wait", 0)):
        if getattr(args, name) is not None and getattr(args, name) < least:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(args, name)}, expected {least} or more")
    if min(args.batch_sizes) < 1:
        raise ConfigError(f"--batch-sizes are {args.batch_sizes}, expected 1 or more")
    fetch_official(args)
    names = [name for name in Settings.__dataclass_fields__ if name != "threads"]
    told = {name: getattr(args, name) for name in names}
    told = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    settings = Settings(**told, threads=args.threads or runtime.cores())
    result = bench(settings, lambda rounds: tqdm(rounds, "rounds", disable=None, leave=False))
    plain, summary = figures.plain(result), figures.summary(result)
    date, command, versions = datetime.date.today().isoformat(), _command(args), figures.package_versions()
    print(report.text(plain, summary))
    if args.output:
        write_atomic(args.output, report.page(plain, summary, versions, date, command).encode())
    write_json(args, {"date": date, "command": command, **plain, "summary": summary, "versions": versions})
    if result.interrupted:
        raise KeyboardInterrupt
    return 0


def _command(args: argparse.Namespace) -> str:
    """The command line, paths cut to their last names."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["paddle-cait bench"]
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        if not action.option_strings or action.dest in ("help", "json", "override") or value == action.default:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [action.option_strings[-1], *(_last(one) for one in values)]
    return " ".join(words)


def _last(value: Any) -> str:
    return Path(value).name if isinstance(value, str) else str(value)


def _some(table: dict[str, Any]) -> str:
    return f"some of {', '.join(table)} (all)"
