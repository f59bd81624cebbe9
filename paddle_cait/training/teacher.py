"""The teacher of a distillation: any classifier of the same classes, seeing images as it was trained to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from paddle_cait.errors import ConfigError
from paddle_cait.factory import create_model
from paddle_cait.files import PathLike
from paddle_cait.presets import Preprocess


@dataclass(frozen=True)
class Teacher:
    """images -> logits. ``sha256``: of its weights."""

    sha256: str
    forward: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        return self.forward(images)


def open_teacher(
    model: str | None, weights: PathLike | None, preset_file: PathLike | None, student: Any, classes: int
) -> Teacher:
    """The preset ``model`` with ``weights``, at the student's image size. Raises :class:`ConfigError` for weights of
    other classes: what they would teach is a new, random classifier."""
    if not model or not weights:
        raise ConfigError("distillation needs --teacher-model and --teacher-weights")
    teacher = create_model(model, weights, num_classes=classes, img_size=student.img_size, preset_file=preset_file)
    new = [name for name in teacher.load_report.kept if name.startswith(teacher.classifier)]
    if new:
        raise ConfigError(
            f"{weights}: its classifier ({new[0]}) is not of these {classes} classes, so it cannot teach them; "
            "fine-tune it on them first"
        )
    teacher.eval()
    return Teacher(teacher.load_report.sha256, as_it_was_trained(teacher, student.preset.preprocess))


def as_it_was_trained(teacher: Any, ours: Preprocess) -> Callable[[Tensor], Tensor]:
    """``teacher`` on images normalised as the student's are."""
    theirs = teacher.preset.preprocess
    if (ours.mean, ours.std) == (theirs.mean, theirs.std):
        return teacher
    scale = np.divide(ours.std, theirs.std)
    shift = np.subtract(ours.mean, theirs.mean) / theirs.std
    factor, offset = (paddle.to_tensor(values.astype(np.float32).reshape(1, 3, 1, 1)) for values in (scale, shift))
    return lambda images: teacher(images * factor + offset)
