"""One evaluation as the ``eval`` verb describes it: images, preprocessing, model, protocol, and the number to meet."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from paddle_cait.cli import eval_engines as engines
from paddle_cait.cli import eval_protocols as protocols
from paddle_cait.cli import eval_report as report
from paddle_cait.data.label_sets import ILSVRC2012, UNNAMED
from paddle_cait.data.sources import ImageSource, open_source
from paddle_cait.data.transforms import EvalTransform, eval_transform
from paddle_cait.deploy.exported import ExportedModel
from paddle_cait.engine.engines import LayerEngine
from paddle_cait.engine.verdict import Verdict, judge_knn
from paddle_cait.errors import ConfigError
from paddle_cait.presets import Preprocess, Preset, Published, list_presets

_FIELDS = ("img_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")


@dataclass(frozen=True)
class Outcome:
    """``text`` for a screen, ``plain`` for JSON; ``rows`` and ``names`` for a table of predictions."""

    verdict: Verdict
    text: str
    plain: dict[str, Any]
    rows: Any
    names: list[str] | None


def measure(args: argparse.Namespace, preset: Preset, weights: str, exported: ExportedModel | None = None) -> Outcome:
    """Evaluate the checkpoint ``weights`` of ``preset``, or what was ``exported`` of one, as the flags say."""
    _check_protocol(args, preset)
    if exported is None:
        engines.check_checkpoint(args, weights)
        engines.prepare(args, args.device)
    backbone = args.protocol != "classifier"
    classes = args.num_classes if args.num_classes is not None else preset.num_classes
    source = open_source(
        args.data,
        args.list,
        args.ground_truth,
        num_classes=None if backbone else classes,
        real_labels=args.real_labels,
        class_subset=args.class_subset,
    )
    dataset = ILSVRC2012 if source.label_set.name == UNNAMED else source.label_set.name
    transform = _transform(args, preset, dataset, exported)
    number = _number(args, preset, transform.preprocess, dataset)
    model: Any = exported or _build(args, preset, weights, transform, number)
    if args.protocol == "knn":
        return _knn(args, preset, model, transform, source, number)
    return _classified(args, preset, model, transform, source, number)


def _build(
    args: argparse.Namespace, preset: Preset, weights: str, transform: EvalTransform, number: Published | None
) -> Any:
    """The checkpoint's model, or what computes it."""
    from paddle_cait.factory import create_model

    model = create_model(
        preset,
        weights,
        num_classes=args.num_classes if args.protocol == "classifier" else 0,
        img_size=transform.preprocess.img_size,
        entry=args.entry,
        **({"resample": args.resample} if args.resample else {}),
        **(number.arch if number else {}),  # as the number was computed
    )
    return LayerEngine(model, static=True) if args.engine == "static" else model


def _check_protocol(args: argparse.Namespace, preset: Preset) -> None:
    if args.protocol == "classifier" and preset.num_classes == 0 and not args.num_classes:
        raise ConfigError(
            f"{preset.full_name} has no classifier: give --protocol knn (with labelled train images), or --protocol "
            "linear --linear-weights FILE"
        )
    if args.protocol == "linear" and not args.linear_weights:
        raise ConfigError("--protocol linear needs --linear-weights, the classifier's checkpoint")


def _number(
    args: argparse.Namespace, preset: Preset, preprocess: Preprocess | None, dataset: str = ILSVRC2012
) -> Published | None:
    """The number to meet; none where the number of classes was given, by a flag or by a fine-tuned checkpoint."""
    return None if args.num_classes else preset.number(preprocess, args.protocol, dataset)


def _transform(args: argparse.Namespace, preset: Preset, dataset: str, exported: ExportedModel | None) -> EvalTransform:
    """The named setting, or the one under which the number was measured; then whatever single flags change."""
    number = _number(args, preset, None, dataset)
    setting = preset.settings[args.preprocess] if args.preprocess else _setting_of(preset, number)
    changes = {key: value for key in _FIELDS if (value := getattr(args, key)) is not None}
    if exported is None:
        return eval_transform(setting, args.backend, **changes)
    return exported.adapt(eval_transform(setting, args.backend, **{"img_size": exported.img_size[0], **changes}))


def _setting_of(preset: Preset, number: Published | None) -> Preprocess:
    known = number is not None and number.preprocess in preset.settings.values()
    return number.preprocess if number is not None and known else preset.preprocess


def _classified(
    args: argparse.Namespace,
    preset: Preset,
    model: Any,
    transform: EvalTransform,
    source: ImageSource,
    number: Published | None,
) -> Outcome:
    from paddle_cait.data.loader import ImageDataset
    from paddle_cait.engine.evaluate import evaluate

    result = evaluate(
        protocols.linear_probe(args, model) if args.protocol == "linear" else model,
        ImageDataset(source, transform),
        batch_size=args.batch_size,
        workers=args.workers,
        limit=args.limit,
        on_error=args.on_error,
        progress_dir=args.output_dir,
        resume=args.resume,
    )
    if isinstance(model, ExportedModel) and number and number.arch:
        how = ", ".join(f"{key} = {value}" for key, value in number.arch.items())
        result.notes.append(f"the published number was computed with {how}, an export computes as the preset does")
    # Without a number over these images, the verdict says over which there is one.
    elsewhere = _number(args, preset, transform.preprocess)
    verdict = result.verdict(number or elsewhere, _other_tags(preset, number))
    plain = report.plain(result, preset, number, verdict)
    return Outcome(verdict, report.text(result, number, verdict), plain, result.rows, result.names)


def _knn(
    args: argparse.Namespace,
    preset: Preset,
    model: Any,
    transform: EvalTransform,
    source: ImageSource,
    number: Published | None,
) -> Outcome:
    result = protocols.run_knn(args, model, transform, source, protocols.open_train(args, source))
    verdict = judge_knn(result, number)
    plain = protocols.knn_plain(result, preset, number, verdict)
    text = protocols.knn_text(result, number, verdict)
    return Outcome(verdict, text, plain, result.rows[result.best_k], result.names)


def _other_tags(preset: Preset, number: Published | None) -> dict[str, Published | None]:
    """The numbers of the same model's other weights under the same conditions: the file may be one of them."""
    if number is None:
        return {}
    others = [p for p in list_presets() if p.name == preset.name and p.full_name != preset.full_name]
    return {p.full_name: p.number(number.preprocess, number.protocol, number.dataset) for p in others}
