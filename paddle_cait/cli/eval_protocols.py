"""The protocols by which ``eval`` measures self-supervised backbones: weighted k-NN and official linear classifiers."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle_cait.cli.eval_report import prepared
from paddle_cait.data.sources import ImageSource, open_source
from paddle_cait.engine.knn import NB_KNN, KnnResult, evaluate_knn
from paddle_cait.engine.verdict import KNN_TEMPERATURE, Verdict
from paddle_cait.errors import ConfigError, DataError
from paddle_cait.presets import PROTOCOLS, Preset, Published
from paddle_cait.weights.linear_head import read_linear_head

if TYPE_CHECKING:
    from paddle import nn

    from paddle_cait.data.transforms import EvalTransform

TRAIN_FOLDER, TRAIN_LIST = "train", "train_list.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("protocol (self-supervised backbones have no classifier of their own)")
    group.add_argument("--protocol", choices=PROTOCOLS, default="classifier", help="default %(default)s")
    group.add_argument(
        "--train-data",
        metavar="DIR",
        help=f"knn: the labelled train images, as for --data; default {TRAIN_LIST} or {TRAIN_FOLDER} in or beside DATA",
    )
    group.add_argument(
        "--train-list", metavar="FILE", help="knn: lines `FILE LABEL`; paths count from --train-data, or from the list"
    )
    group.add_argument("--nb-knn", type=int, nargs="+", default=list(NB_KNN), metavar="K", help="knn: %(default)s")
    group.add_argument("--temperature", type=float, default=KNN_TEMPERATURE, help="knn: %(default)s")
    group.add_argument("--linear-weights", metavar="FILE", help="linear: the classifier's checkpoint")
    group.add_argument(
        "--linear-form", metavar="FORM", help="linear: cls4, cls1_avg_interleaved, ...; default by width and family"
    )


def open_train(args: argparse.Namespace, val: ImageSource, num_classes: int | None = None) -> ImageSource:
    """The train images of ``--protocol knn``; labelled as the validation images ``val`` are, where that can be told."""
    train = _find_train(args, num_classes)
    if all(source.labelled_by.startswith("sorted folder names") for source in (train, val)):
        ours, theirs = ({name.partition("/")[0]: label for name, label in zip(s.names, s.labels)} for s in (train, val))
        for folder in theirs:
            if ours.get(folder) != theirs[folder]:
                raise DataError(
                    f"{train.root}: class {folder} has label {ours.get(folder)} here, {theirs[folder]} in {val.root}: "
                    "labels follow the sorted folder names, so both need the same folders; or pass list files"
                )
    return train


def _find_train(args: argparse.Namespace, num_classes: int | None) -> ImageSource:
    if args.train_data or args.train_list:
        return open_source(args.train_data or Path(args.train_list).parent, args.train_list, num_classes=num_classes)
    data = Path(args.data)
    for root in (data, data.parent):
        if (root / TRAIN_LIST).is_file():
            return open_source(root, root / TRAIN_LIST, num_classes=num_classes)
        if (root / TRAIN_FOLDER).is_dir():
            return open_source(root / TRAIN_FOLDER, num_classes=num_classes)
    raise ConfigError(
        f"--protocol knn needs labelled train images: no {TRAIN_LIST} and no folder {TRAIN_FOLDER} in or beside "
        f"{data}; give --train-data or --train-list"
    )


def run_knn(
    args: argparse.Namespace, model: nn.Layer, transform: EvalTransform, val: ImageSource, train: ImageSource
) -> KnnResult:
    """k-NN accuracy of ``model`` (built with ``num_classes=0``); features stay in ``--output-dir``."""
    from paddle_cait.data.loader import ImageDataset

    return evaluate_knn(
        model,
        ImageDataset(train, transform),
        ImageDataset(val, transform),
        args.output_dir,
        nb_knn=args.nb_knn,
        temperature=args.temperature,
        limit=args.limit,
        batch_size=args.batch_size,
        workers=args.workers,
        on_error=args.on_error,
        resume=args.resume,
    )


def linear_probe(args: argparse.Namespace, model: nn.Layer) -> nn.Layer:
    """The classifier ``--linear-weights`` on the features of ``model``, to be evaluated as any model."""
    from paddle_cait.engine.linear_probe import LinearProbe

    return LinearProbe(model, read_linear_head(args.linear_weights), args.linear_form)


def knn_text(result: KnnResult, published: Published | None, verdict: Verdict) -> str:
    """The result on a screen, a line a k; its last line is the verdict."""
    lines = [
        f"{result.model}  {result.weights_file}  sha256 {result.weights_sha256[:16]}",
        f"  protocol    k-NN by cosine similarity, temperature {result.temperature:g}",
        f"  train       {_images(result.train)}",
        f"  images      {_images(result.dataset)}",
        f"  prepared    {prepared(result)}",
        f"  features    {result.width} wide, kept in {' and '.join(result.features)}",
    ]
    for k in sorted(result.rows):
        c = result.counts(k)
        best = "   best" if k == result.best_k else ""
        lines.append(
            f"  k = {k:<7} top-1 {c['top1']:.3f} ({c['top1_correct']}/{result.n})"
            f"   top-5 {c['top5']:.3f} ({c['top5_correct']}/{result.n}){best}"
        )
    if published:
        lines.append(f"  published   {published.top1:.3f}")
    time = f"features {result.feature_seconds:.1f} s, search {result.search_seconds:.1f} s"
    lines.append(f"  time        {time} on {result.device}, {result.processes} process(es)")
    skipped = [*result.train["skipped"], *result.skipped]
    lines += [f"  skipped     {message}" for _, message in skipped[:10]]
    if len(skipped) > 10:
        lines.append(f"  skipped     ... and {len(skipped) - 10} more; --json lists all")
    lines += [f"  note        {note}" for note in result.notes]
    return "\n".join([*lines, str(verdict)])


def _images(described: dict[str, Any]) -> str:
    return f"{described['n']:,} of {described['images']:,} ({described.get('description', 'dataset')})"


def knn_plain(result: KnnResult, preset: Preset, published: Published | None, verdict: Verdict) -> dict[str, Any]:
    """The result for JSON."""
    return {
        **result.as_dict(),
        **result.counts(result.best_k),
        "images_per_second": result.n / result.feature_seconds if result.feature_seconds else 0.0,
        "published": dataclasses.asdict(published) if published else None,
        "verdict": dataclasses.asdict(verdict),
        "licence": preset.licence,
    }
