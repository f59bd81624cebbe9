"""Accuracy of a model over a labelled set of images: integer counts over exactly the images listed."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from paddle_cait.data.imagenet import ilsvrc_id_to_label
from paddle_cait.data.label_sets import PLAIN, LabelSet
from paddle_cait.data.loader import ImageDataset, load_batches
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import EvalTransform, eval_transform
from paddle_cait.engine import order
from paddle_cait.engine.diagnose import ENOUGH, diagnose
from paddle_cait.engine.engines import Engine, as_engine
from paddle_cait.engine.metrics import Rows, score
from paddle_cait.engine.processes import barrier, gather, join_processes
from paddle_cait.engine.progress import Failed, Progress
from paddle_cait.engine.result import EvalResult
from paddle_cait.errors import DataError, PaddleCaitError
from paddle_cait.files import PathLike
from paddle_cait.presets import SETTINGS, Preprocess

if TYPE_CHECKING:
    from paddle import nn

log = logging.getLogger("paddle_cait")


def evaluate(
    model: nn.Layer | Engine,
    dataset: Any,
    *,
    list_file: PathLike | None = None,
    real_labels: PathLike | None = None,
    preprocess: str = "official",
    batch_size: int = 64,
    workers: int = 2,
    limit: int | None = None,
    on_error: str = "stop",
    progress_dir: PathLike | None = None,
    resume: bool = False,
) -> EvalResult:
    """Evaluate ``model`` on ``dataset``, in as many processes as ``paddle.distributed.launch`` started.

    Args:
        model: a Paddle layer, computed in dygraph; or what else computes logits: a layer in a static graph
            (:class:`paddle_cait.engine.engines.LayerEngine`), an exported folder
            (:func:`paddle_cait.deploy.exported.load_exported`).
        dataset: the path of labelled images (:func:`paddle_cait.data.sources.open_source`), prepared as the model's
            preset says; or anything with ``len`` and ``[i] -> (image float32 [3, H, W], label)``, best an
            :class:`paddle_cait.data.loader.ImageDataset`, which also brings paths, fingerprint and preprocessing.
        list_file, real_labels: of a path: its list, ``PATH LABEL`` or ``PATH 3,17`` a line; ImageNet-ReaL's real.json.
        preprocess: of a path: the preset's ``official`` setting, or ``timm``'s.
        batch_size: images a step and process. Memory and speed depend on it, the counts do not.
        workers: processes that decode images; 0 decodes in this one.
        limit: only so many images, spread evenly over the list (a list sorted by class stays representative).
        on_error: ``stop`` at an unreadable image, or ``skip`` and list it (the verdict becomes NOT COMPARABLE).
        progress_dir: keep progress here until the evaluation is complete; with ``resume`` continue from it.

    Every image is counted exactly once, whatever the number of processes. Which classes are right, and among which the
    best is sought, is up to the dataset's label set (:mod:`paddle_cait.data.label_sets`). Raises :class:`DataError` for
    an unreadable image and :class:`PaddleCaitError` for logits that are not finite or labels of other classes.
    """
    order.check(batch_size, workers, limit)
    engine = as_engine(model)
    if isinstance(dataset, (str, os.PathLike)):
        source = open_source(dataset, list_file, num_classes=engine.num_classes, real_labels=real_labels)
        dataset = ImageDataset(source, engine.adapt(_transform(model, preprocess)))
    elif list_file or real_labels or preprocess != "official":
        raise PaddleCaitError("list_file, real_labels and preprocess belong to a path: open_source and eval_transform")
    labels = _label_set(engine, dataset)
    rank, world = join_processes()
    wanted = order.spread(len(dataset), limit)
    progress = Progress(progress_dir, _identity(engine, dataset, labels, wanted)) if progress_dir is not None else None
    done, failed = _earlier(progress, resume, rank, world)
    seen = {*done.index.tolist(), *(index for index, _ in failed)}
    batches = list(order.batches([i for i in wanted if i not in seen], batch_size))[rank::world]
    bar = tqdm(
        total=sum(map(len, batches)) + len(seen),
        initial=len(seen),
        unit="img",
        desc="eval",
        disable=None if rank == 0 else True,
    )
    notes: list[str] = []
    started = time.perf_counter()
    predictions = _predict(engine, dataset, labels, batches, workers, on_error, notes)
    kept = contextlib.closing(progress) if progress else contextlib.nullcontext()
    with kept, engine.running(), bar:
        new = _count(predictions, progress, _Watch(labels, engine.num_classes, notes), bar)
    seconds = time.perf_counter() - started
    gathered = gather((*new, notes), world)
    rows = Rows.join([done, *(part for part, _, _ in gathered)])
    failed = sorted([*failed, *(item for _, items, _ in gathered for item in items)])
    _check_complete(rows, failed, wanted)
    fresh = sum(len(part) for part, _, _ in gathered)
    result = _result(engine, dataset, labels, rows, failed, batch_size, world, seconds, fresh, len(wanted))
    result.notes = list(dict.fromkeys(note for _, _, some in gathered for note in some))
    if progress and rank == 0:
        progress.remove()
    return result


def _earlier(progress: Progress | None, resume: bool, rank: int, world: int) -> tuple[Rows, list[Failed]]:
    """What an interrupted evaluation counted, the same in every process; the log is open behind it."""
    if progress is None:
        return Rows.empty(), []
    if rank == 0:
        progress.begin(resume)
    barrier(world)
    found = progress.read()
    barrier(world)  # nobody writes before everybody has read
    progress.open_log(rank)
    return found


def _count(
    predictions: Iterable[tuple[Rows, list[Failed]]], progress: Progress | None, watch: _Watch, bar: Any
) -> tuple[Rows, list[Failed]]:
    """Take the predictions of this process, each kept as soon as it is there."""
    new: list[Rows] = []
    failed: list[Failed] = []
    for rows, bad in predictions:
        if progress:
            progress.append(rows, bad)
        new.append(rows)
        failed.extend(bad)
        watch.look(new)
        bar.update(len(rows) + len(bad))
        bar.set_postfix_str(f"top1 {100 * _top1(new):.2f}", refresh=False)
    return Rows.join(new), failed


def _transform(model: Any, preprocess: str) -> EvalTransform:
    """The model's transform under a named setting of its preset, at the model's own size."""
    if preprocess not in SETTINGS:
        raise PaddleCaitError(f"preprocess is {preprocess!r}, expected {' or '.join(SETTINGS)}")
    own = eval_transform(model)
    if preprocess == "official":
        return own
    if model.preset is None:
        raise PaddleCaitError(f"preprocess {preprocess!r} is a setting of a preset, which {model.label} is not")
    return eval_transform(model.preset.settings[preprocess], img_size=own.preprocess.img_size)


def _predict(
    engine: Engine,
    dataset: Any,
    labels: LabelSet,
    batches: Sequence[Sequence[int]],
    workers: int,
    on_error: str,
    notes: list[str],
) -> Iterator[tuple[Rows, list[Failed]]]:
    for batch in load_batches(dataset, batches, workers, on_error, notes):
        rows = Rows.empty()
        if len(batch.indices):
            right = None if labels.right is None else [labels.right[i] for i in batch.indices]
            rows = score(engine(batch.images), batch.labels, batch.indices, right, labels.classes)
        yield rows, batch.failed


class _Watch:
    """Says early, and once, that accuracy is near chance and what it looks like."""

    def __init__(self, labels: LabelSet, num_classes: int, notes: list[str]) -> None:
        self.num_classes = len(labels.classes or range(num_classes))
        self.labels_per_image, self.notes = labels.labels_per_image, notes
        self.said = labels.name == "ImageNet-A"  # chosen to be misread: there, a sound model can be at chance

    def look(self, parts: list[Rows]) -> None:
        if self.said or not ENOUGH <= sum(map(len, parts)) < 20 * ENOUGH:
            return
        message = diagnose(Rows.join(parts), self.num_classes, ilsvrc_id_to_label(), self.labels_per_image)
        if message:
            self.said = True
            self.notes.append(message)
            log.warning(message)


def _top1(parts: list[Rows]) -> float:
    return sum(p.top1_correct for p in parts) / max(1, sum(map(len, parts)))


def _identity(model: nn.Layer | Engine, dataset: Any, labels: LabelSet, wanted: list[int]) -> dict[str, Any]:
    """What must be equal for earlier progress to count: the weights and how logits are computed from them, the images,
    their labels, and the preparation."""
    engine, preprocess, source = as_engine(model), _preprocess(dataset), getattr(dataset, "source", None)
    return {
        "model": engine.label,
        "weights": getattr(engine.load_report, "sha256", ""),
        "computed": [engine.engine, engine.precision, dict(engine.files)],
        "images": getattr(source, "fingerprint", f"{len(dataset)} items"),
        "classes": labels.classes,
        "wanted": [len(wanted), wanted[-1] if wanted else -1],
        "preprocess": asdict(preprocess) if preprocess else None,
        "backend": _backend(dataset),
    }


def _check_complete(rows: Rows, failed: list[Failed], wanted: list[int]) -> None:
    if sorted([*rows.index.tolist(), *(index for index, _ in failed)]) != wanted:
        raise PaddleCaitError(
            f"{len(rows)} images were counted, expected each of {len(wanted)} once: the progress folder is damaged; "
            "run again without --resume"
        )


def _result(
    engine: Engine,
    dataset: Any,
    labels: LabelSet,
    rows: Rows,
    failed: list[Failed],
    batch_size: int,
    world: int,
    seconds: float,
    fresh: int,
    wanted: int,
) -> EvalResult:
    source, report = getattr(dataset, "source", None), engine.load_report
    described: dict[str, Any] = {"images": len(dataset), "evaluated": wanted}
    described["classes_asked"] = len(labels.classes or range(engine.num_classes))
    if source is not None:
        described.update(kind=source.kind, description=source.describe(), fingerprint=source.fingerprint)
    return EvalResult(
        model=engine.label,
        n=len(rows),
        top1_correct=rows.top1_correct,
        top5_correct=rows.top5_correct,
        loss=float(rows.loss.mean()) if len(rows) else 0.0,
        rows=rows,
        names=getattr(source, "names", None),
        preprocess=_preprocess(dataset),
        backend=_backend(dataset),
        weights_sha256=report.sha256 if report else "",
        weights_file=report.path if report else "",
        weights_notes=list(report.notes) if report else [],
        dataset=described,
        skipped=failed,
        device=engine.device,
        processes=world,
        batch_size=batch_size,
        images_per_second=fresh / seconds if seconds > 0 else 0.0,
        seconds=seconds,
        label_set=labels.name,
        n_not_counted=labels.not_counted,
        engine=engine.engine,
        precision=engine.precision,
        runtime={**engine.settings, "files": dict(engine.files)},
    )


def _label_set(engine: Engine, dataset: Any) -> LabelSet:
    labels: LabelSet = getattr(getattr(dataset, "source", None), "label_set", PLAIN)
    if labels.num_classes not in (None, engine.num_classes):
        raise DataError(
            f"{labels.name} has labels of {labels.num_classes:,} classes, the model has {engine.num_classes:,}: pass "
            f"weights with the {labels.num_classes:,} classes"
        )
    return labels


def _preprocess(dataset: Any) -> Preprocess | None:
    return getattr(getattr(dataset, "transform", None), "preprocess", None)


def _backend(dataset: Any) -> str | None:
    return getattr(getattr(dataset, "transform", None), "backend", None)
