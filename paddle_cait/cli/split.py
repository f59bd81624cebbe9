"""Make train_list.txt, val_list.txt and labels.txt from one folder per class.

Each class gives the same share of its images, chosen by the seed. Labels follow the sorted names of the folders. The
lists are what `paddle-cait finetune` and PaddleClas read."""

from __future__ import annotations

import argparse

from paddle_cait.cli.common import add_config, add_json, write_json
from paddle_cait.data.split import split_folders, write_split

EXAMPLE = "paddle-cait split flowers --val 0.1 --test 0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="holds one folder per class")
    parser.add_argument("--val", type=float, default=0.1, metavar="SHARE", help="to validate with (%(default)s)")
    parser.add_argument("--test", type=float, default=0.0, metavar="SHARE", help="to keep back (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument("--output-dir", metavar="DIR", help="where the lists go (default: DIR)")
    parser.add_argument("--force", action="store_true", help="write over lists that are there")
    add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    split = split_folders(args.folder, args.val, args.test, args.seed)
    paths = write_split(split, args.output_dir or args.folder, args.force)
    counts = split.counts()
    width = max(len(name) for name in ("class", "all", *split.names))
    print(f"{'class':<{width}}" + "".join(f"{part:>8}" for part in counts))
    for label, name in enumerate(split.names):
        print(f"{name:<{width}}" + "".join(f"{of[label]:>8}" for of in counts.values()))
    print(f"{'all':<{width}}" + "".join(f"{sum(of):>8}" for of in counts.values()))
    print(f"wrote {', '.join(map(str, paths))}")
    write_json(args, {"classes": split.names, "counts": counts, "seed": args.seed})
    return 0
