"""Before hours are spent: do the loaded weights see anything in these photographs?"""

from __future__ import annotations

import copy
import logging
import shutil
from pathlib import Path
from typing import Any

from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import ImageSource
from paddle_cait.data.transforms import eval_transform
from paddle_cait.engine import order
from paddle_cait.engine.knn import evaluate_knn
from paddle_cait.engine.processes import barrier, join_processes
from paddle_cait.training.datasets import TrainingData

log = logging.getLogger("paddle_cait")

_TRAIN, _VAL, _K = 1000, 300, 10
_CLEARLY = 1.5  # times chance


def check_backbone(
    backbone: Any, data: TrainingData, folder: Path, batch_size: int = 64, workers: int = 2, on_error: str = "stop"
) -> float:
    """Top-1, in percent, of naming validation images by their nearest training images, a part of each, as the features
    of ``backbone`` (built with ``num_classes=0``) see them; in all processes of a run together, with the features in
    ``folder`` meanwhile. Says so in the log, and warns where it is near chance.

    ``data``: of the run. ``batch_size``: images a step. ``workers``, ``on_error``: as of :func:`paddle_cait.finetune`.
    """
    train, val = (_part(source, most) for source, most in ((data.train, _TRAIN), (data.val, _VAL)))
    transform = eval_transform(backbone)
    backbone.eval()
    rank, world = join_processes()
    try:
        result = evaluate_knn(
            backbone,
            ImageDataset(train, transform),
            ImageDataset(val, transform),
            folder,
            nb_knn=(max(1, min(_K, len(train) // 2)),),  # half: unreadable images may be left out
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
        )
        barrier(world)
    finally:
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    rows = result.rows[result.best_k]
    top1 = 100.0 * rows.top1_correct / max(1, len(rows))
    chance = 100.0 * max(val.labels.count(label) for label in set(val.labels)) / len(val)
    log.info(
        "the loaded backbone names %.1f%% of %d validation images by their nearest of %d training images (always the "
        "most frequent class: %.1f%%)", top1, len(rows), len(train), chance,
    )  # fmt: skip
    if top1 < min(_CLEARLY * chance, (100 + chance) / 2):
        log.warning(
            "that is near chance: the weights may be damaged or not this preset's, or these images are unlike what "
            "they were trained on; training goes on"
        )
    return top1


def _part(source: ImageSource, most: int) -> ImageSource:
    chosen = order.spread(len(source), most)
    part = copy.copy(source)
    part.names, part.labels = [source.names[i] for i in chosen], [source.labels[i] for i in chosen]
    return part
