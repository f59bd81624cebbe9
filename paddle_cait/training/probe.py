"""A linear probe: what the classes' names are worth to a backbone that stays as it is.

Every image is seen once, prepared as for evaluation, and its features are kept; the classifier is fitted on them
(:mod:`paddle_cait.training.logistic`) and put into the model, which is then like any fine-tuned one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.transforms import eval_transform
from paddle_cait.engine.features import extract_features
from paddle_cait.engine.progress import Failed
from paddle_cait.errors import ConfigError
from paddle_cait.training.datasets import TrainingData
from paddle_cait.training.logistic import find_minimize, fit

log = logging.getLogger("paddle_cait")


def probe(
    build: Callable[..., Any],
    data: TrainingData,
    folder: Path,
    *,
    batch_size: int = 32,
    workers: int = 2,
    on_error: str = "stop",
    seed: int = 0,
) -> tuple[Any, dict[str, Any], list[Failed]]:
    """``build(num_classes=n)`` with its classifier fitted to the training images, a row of the log, and the images that
    could not be read.

    ``batch_size``, ``workers`` and ``on_error`` are those of :func:`paddle_cait.engine.features.extract_features`;
    ``seed`` chooses the fifth of the training images of ``data`` on which weight decay is judged.

    The features stay in ``folder``; a later run with the same weights and images takes them from there. All processes
    of a run compute their share and fit the same classifier. Raises :class:`ConfigError` for a model whose classifier
    is not one linear layer on its features.
    """
    find_minimize()  # rather than after hours of features
    started = time.perf_counter()
    model = build(num_classes=data.num_classes)
    head = _classifier(model)
    backbone = build(num_classes=0)
    features = extract_features(
        backbone, ImageDataset(data.train, eval_transform(backbone)), folder, batch_size=batch_size, workers=workers,
        on_error=on_error, resume=True, what="features of the training images",
    )  # fmt: skip
    del backbone
    values, labels = features[0 : len(features)], np.asarray(features.labels, np.int64)
    found, losses = fit(values, labels, data.num_classes, seed)
    log.info(
        "weight decay %.1e: the loss on a held-out fifth of the training images is %.4f (%s)", found.decay,
        losses[found.decay], ", ".join(f"{decay:.1e}: {loss:.4f}" for decay, loss in losses.items()),
    )  # fmt: skip
    head.weight.set_value(found.weight)
    head.bias.set_value(found.bias)
    row = {"epoch": 1, "updates": 0, "train_loss": found.loss(values, labels)}
    return model, {**row, "seconds": time.perf_counter() - started}, features.skipped


def _classifier(model: Any) -> Any:
    layers = [name for name in model.classifier if any(key.startswith(f"{name}.") for key in model.state_dict())]
    if len(layers) != 1:
        raise ConfigError(
            f"{model.preset.full_name}: its classifier is {' and '.join(layers)}, tune: linear fits one layer; take "
            "tune: head, which trains them with the images"
        )
    return getattr(model, layers[0])
