"""When accuracy is near chance: which fault in labels, layout or weights it looks like.

A faithful model on faithful data is never near chance, and the pattern of its mistakes gives the fault away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from paddle_cait.engine.metrics import Rows

ENOUGH = 200  # images before a judgement is made
CONSISTENT = 0.5  # share of images that a suspected fault must explain


def near_chance(rows: Rows, num_classes: int, labels_per_image: float = 1.0) -> bool:
    """Is top-1 no better than guessing (four standard deviations above labels_per_image/classes)?"""
    expected = len(rows) * labels_per_image / num_classes
    return len(rows) >= ENOUGH and rows.top1_correct <= expected + 4 * math.sqrt(expected) + 1


def diagnose(
    rows: Rows, num_classes: int, id_to_label: Mapping[int, int] | None = None, labels_per_image: float = 1.0
) -> str | None:
    """One line about the likely fault, or None while accuracy is above chance (or too few images are in).

    Args:
        rows: what was predicted; below 200 images nothing is said.
        num_classes: how many classes the best one was sought among.
        id_to_label: label of each ILSVRC2012_ID (1..1000), to recognise the devkit's own class order.
        labels_per_image: how many classes are right for an image, on average.
    """
    if not near_chance(rows, num_classes, labels_per_image):
        return None
    predicted, label = rows.top[:, 0], rows.label
    start = f"top-1 is {rows.top1_correct} of {len(rows)}, near chance for {num_classes} classes: "
    for shift, meaning in ((-1, "the labels start at 1, expected 0"), (1, "the labels lie one too low")):
        if _share(predicted == label + shift) > CONSISTENT:
            return start + f"predictions are label{shift:+d}: {meaning}"
    if num_classes > 10 and label.max() < num_classes:
        as_text = np.array(sorted(range(num_classes), key=str))
        if _share(predicted == as_text[label]) > CONSISTENT:
            return start + (
                "the labels number folders 0, 1, 2, ... in their order as text (0, 1, 10, 100, ...), as ImageFolder "
                "does: the folder's name is the label"
            )
    if id_to_label is not None and num_classes == len(id_to_label):
        for first in (1, 0):  # ids as they are, or shifted to start at 0
            meant = np.array([id_to_label.get(int(number) + 1 - first, -1) for number in label])
            if _share(predicted == meant) > CONSISTENT:
                return start + (
                    "the labels are the devkit's ILSVRC2012_ID order, expected sorted WordNet ids: give the "
                    "devkit's file with --ground-truth instead of a list"
                )
    if _share(predicted == np.bincount(predicted).argmax()) > 0.9:
        return start + (
            f"nearly every image is predicted as class {int(np.bincount(predicted).argmax())}: the weights or the "
            "preprocessing (mean, std, RGB order) are wrong, not the labels"
        )
    if _one_class_per_label(rows):
        return start + (
            "images of one label agree on another class: labels and logits are in different class orders (folders "
            "sorted by name instead of WordNet id, or a missing class folder that shifts the rest)"
        )
    return start + (
        "predictions and labels look unrelated: the list names other images than the folder holds, the images lie in "
        "the wrong class folders, or the weights are not those of a trained model"
    )


def _one_class_per_label(rows: Rows) -> bool:
    """Do images that share a label mostly share a prediction too? Needs labels with several images."""
    agree = total = 0
    for label in np.unique(rows.label):
        predictions = rows.top[rows.label == label, 0]
        if len(predictions) >= 3:
            agree += int(np.bincount(predictions).max())
            total += len(predictions)
    return total >= ENOUGH // 2 and agree > CONSISTENT * total


def _share(hits: np.ndarray) -> float:
    return float(hits.mean())
