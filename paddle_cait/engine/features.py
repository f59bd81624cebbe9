"""Features of labelled images by a frozen backbone, computed once and kept on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from paddle_cait.data.loader import load_batches
from paddle_cait.engine import order
from paddle_cait.engine.feature_store import TO_DO, Features, FeatureStore
from paddle_cait.engine.processes import barrier, join_processes
from paddle_cait.engine.progress import Failed
from paddle_cait.errors import DataError, PaddleCaitError
from paddle_cait.files import PathLike

if TYPE_CHECKING:
    from paddle import nn

log = logging.getLogger("paddle_cait")


def extract_features(
    model: nn.Layer,
    dataset: Any,
    folder: PathLike,
    *,
    batch_size: int = 64,
    workers: int = 2,
    limit: int | None = None,
    on_error: str = "stop",
    resume: bool = False,
    what: str = "features",
) -> Features:
    """``model(images)`` of every image of ``dataset``, below ``folder``, in as many processes as were launched.

    Args:
        model: built with ``num_classes=0``, so that it gives features [B, ``model.num_features``].
        dataset: as for :func:`paddle_cait.engine.evaluate.evaluate`, as are ``limit`` and ``on_error``.
        batch_size: images a step and process; memory and speed depend on it.
        workers: processes that decode images; 0 decodes in this one.
        resume: continue what an interrupted run began; without it an unfinished one is discarded.
        what: the progress bar's name.

    Finished features of the same weights, images and preparation are taken as they are, with or without ``resume``.
    Images that an earlier run skipped are tried again unless ``on_error`` is ``skip``. The processes must share
    ``folder``. Raises :class:`DataError` for an unreadable image and :class:`PaddleCaitError` for a short disk,
    features that are not finite and a model that gives something else.
    """
    order.check(batch_size, workers, limit)
    rank, world = join_processes()
    wanted = np.array(order.spread(len(dataset), limit), np.int64)
    store = FeatureStore(folder, _identity(model, dataset, wanted))
    if rank == 0:
        store.begin(wanted, resume)
    barrier(world)
    labels, failed = store.labels(), store.failed()
    barrier(world)  # nobody writes before everybody has read
    to_do = labels == TO_DO
    if on_error == "skip":
        to_do &= ~np.isin(wanted, list(failed))
    batches = list(order.batches(wanted[to_do].tolist(), batch_size))[rank::world]
    started = time.perf_counter()
    if to_do.any():
        there = len(wanted) - int(to_do.sum())
        total = there + sum(map(len, batches))
        bar = tqdm(total=total, initial=there, unit="img", desc=what, disable=None if rank == 0 else True)
        with bar, store.opened(rank):
            for done, values, found, bad in _compute(model, dataset, batches, workers, on_error):
                store.append(np.searchsorted(wanted, done), values, found, bad)
                bar.update(len(done) + len(bad))
    elif rank == 0:
        log.info(f"{store.folder}: {what} of {len(wanted)} images found (delete the folder to compute them anew)")
    barrier(world)
    return store.finished(wanted, computed=int(to_do.sum()), seconds=time.perf_counter() - started)


def _compute(
    model: nn.Layer, dataset: Any, batches: Sequence[Sequence[int]], workers: int, on_error: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, list[Failed]]]:
    """(indices, features [B, F], labels, images that failed) of each batch; the model comes back in its own mode."""
    import paddle

    width, was_training = _width(model), model.training
    model.eval()
    try:
        for batch in load_batches(dataset, batches, workers, on_error):
            values = np.zeros((0, width), np.float32)
            if len(batch.indices):
                with paddle.no_grad():
                    values = model(batch.images).astype("float32").numpy()
                _check(values, width, batch.indices, batch.labels)
            yield batch.indices, values, batch.labels, batch.failed
    finally:
        if was_training:
            model.train()


def _check(values: np.ndarray, width: int, indices: np.ndarray, labels: np.ndarray) -> None:
    if values.shape != (len(indices), width):
        raise PaddleCaitError(f"the model gives {list(values.shape)}, expected features [{len(indices)}, {width}]")
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        raise PaddleCaitError(
            f"image {int(indices[broken][0])} of the list gives features that are not finite: the weights are damaged, "
            "or the precision is too low for this model"
        )
    if labels.min() < 0:
        raise DataError(f"label {int(labels.min())} in the list, expected 0 or more")


def _identity(model: nn.Layer, dataset: Any, wanted: np.ndarray) -> dict[str, Any]:
    """What must be equal for earlier features to be these. The root too: ImageNet's variants share names and labels."""
    transform, preset = getattr(dataset, "transform", None), getattr(model, "preset", None)
    preprocess, source = getattr(transform, "preprocess", None), getattr(dataset, "source", None)
    report = getattr(model, "load_report", None)
    return {
        "model": preset.full_name if preset else type(model).__name__,
        "feature": "output",
        "width": _width(model),
        "weights": getattr(report, "sha256", ""),
        "entry": getattr(report, "entry", None),  # a training checkpoint holds several sets of weights
        "images": getattr(source, "fingerprint", ""),
        "root": str(Path(getattr(source, "root", "")).resolve()),
        "wanted": [len(wanted), int(wanted[-1]) if len(wanted) else -1],
        "preprocess": asdict(preprocess) if preprocess else None,
        "backend": getattr(transform, "backend", None),
    }


def _width(model: nn.Layer) -> int:
    width: int | None = getattr(model, "num_features", None)
    if not width or getattr(model, "num_classes", None):
        raise PaddleCaitError(f"{type(model).__name__} gives no features: build the model with num_classes=0")
    return width
