"""What a training step minimises. Every target is a row of probabilities [B, classes], smoothed and mixed alike."""

from __future__ import annotations

from typing import Union

import numpy as np
import paddle.nn.functional as F
from paddle import Tensor

from paddle_cait.errors import ConfigError, PaddleCaitError

Outputs = Union[Tensor, tuple[Tensor, Tensor]]

LOSSES = ("ce", "bce")


def soft_targets(labels: np.ndarray, classes: int, smoothing: float = 0.0) -> np.ndarray:
    """float32 [B, classes]: 1 - ``smoothing`` for the label, and ``smoothing`` spread over all classes."""
    targets = np.full((len(labels), classes), smoothing / classes, np.float32)
    targets[np.arange(len(labels)), labels] += 1.0 - smoothing
    return targets


def class_loss(logits: Tensor, targets: Tensor, kind: str = "ce") -> Tensor:
    """The mean over the batch of the cross entropy; or, as ``bce``, DeiT III's mean over all classes of the binary one,
    where every class with a share in the target is right."""
    if kind == "ce":
        return -(targets * F.log_softmax(logits, axis=-1)).sum(-1).mean()
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, (targets > 0).astype(logits.dtype))
    raise ConfigError(f"loss is {kind!r}, expected {' or '.join(LOSSES)}")


def distillation_loss(student: Tensor, teacher: Tensor, kind: str = "hard", temperature: float = 1.0) -> Tensor:
    """DeiT's (Touvron et al. 2021): ``hard``, the teacher's best class is the label; ``soft``, the divergence of both
    distributions at a temperature, times its square, over all numbers of the batch."""
    if kind == "hard":
        return F.cross_entropy(student, teacher.argmax(-1))
    if kind != "soft":
        raise ConfigError(f"distillation_type is {kind!r}, expected hard or soft")
    ours, theirs = (F.log_softmax(logits / temperature, axis=-1) for logits in (student, teacher))
    return (theirs.exp() * (theirs - ours)).sum() * (temperature**2 / student.size)


def total_loss(
    outputs: Outputs,
    targets: Tensor,
    teacher: Tensor | None = None,
    *,
    kind: str = "ce",
    alpha: float = 0.5,
    distillation: str = "hard",
    temperature: float = 1.0,
) -> Tensor:
    """The loss of one batch. A distilled model's second output learns from the teacher, its first from the labels; with
    one output both pull at it. Without a teacher both outputs learn from the labels."""
    both = outputs if isinstance(outputs, tuple) else (outputs, outputs)
    if teacher is None:
        if not isinstance(outputs, tuple):
            return class_loss(outputs, targets, kind)
        return sum(class_loss(one, targets, kind) for one in both) / len(both)
    if teacher.shape != both[1].shape:
        raise PaddleCaitError(f"the teacher gives {teacher.shape} logits, the model {both[1].shape}")
    taught = distillation_loss(both[1], teacher, distillation, temperature)
    return (1 - alpha) * class_loss(both[0], targets, kind) + alpha * taught
