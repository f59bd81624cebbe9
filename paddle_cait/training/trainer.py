"""One update of a model: its images forward and backward, gradients of all processes averaged, one step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle import Tensor, nn

from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.training.ema import Ema
from paddle_cait.training.groups import parameter_groups
from paddle_cait.training.losses import Outputs, soft_targets, total_loss
from paddle_cait.training.mixup import Mixup
from paddle_cait.training.optimizer import Optimizer

if TYPE_CHECKING:
    from paddle_cait.training.recipe import Recipe

PRECISIONS = ("fp32", "bf16", "fp16", "auto")


class NotFiniteError(PaddleCaitError):
    """The loss is not a number; the run cannot go on from here."""


@dataclass(frozen=True)
class Objective:
    """What is minimised. ``teacher``: images -> logits, for distillation."""

    classes: int
    kind: str = "ce"
    smoothing: float = 0.1
    mixup: Mixup | None = None
    teacher: Callable[[Tensor], Tensor] | None = None
    alpha: float = 0.5
    distillation: str = "hard"
    temperature: float = 1.0

    def __call__(self, forward: Callable[[Tensor], Outputs], images: Tensor, labels: np.ndarray, rng: Any) -> Tensor:
        """The loss of one batch, with whatever is mixed drawn from ``rng``."""
        targets = soft_targets(labels, self.classes, self.smoothing)
        if self.mixup is not None and self.mixup.on:
            mixing = self.mixup.draw(len(labels), images.shape[2:], rng)
            images, targets = mixing.apply(images), mixing.targets(targets)
        taught = None
        if self.teacher is not None:
            with paddle.no_grad():
                taught = self.teacher(images)
        return total_loss(
            forward(images),
            paddle.to_tensor(targets, place=images.place),
            taught,
            kind=self.kind,
            alpha=self.alpha,
            distillation=self.distillation,
            temperature=self.temperature,
        )


@dataclass
class Trainer:
    """``model`` in training mode learns from one update's batches at a time.

    ``precision``: fp32; bf16 and fp16 compute what profits in that type and keep weights in float32 (fp16 with its
    loss scaled); auto is what the device has: bf16, else fp16, on a CPU fp32. ``world``: processes whose gradients are
    averaged.
    """

    model: nn.Layer
    objective: Objective
    optimizer: Optimizer
    ema: Ema | None = None
    precision: str = "fp32"
    world: int = 1
    scaler: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"amp is {self.precision!r}, expected {', '.join(PRECISIONS)}")
        if self.precision == "auto":
            self.precision = best_precision()
        if self.precision == "fp16":
            self.scaler = paddle.amp.GradScaler(init_loss_scaling=2.0**16)

    def update(
        self, batches: Sequence[tuple[Tensor, np.ndarray]], lr: float, rngs: Sequence[np.random.Generator]
    ) -> float | None:
        """One update from ``batches`` (images, labels), with a generator for each. Returns the mean loss over all
        images of all processes. Raises :class:`NotFiniteError` before any weight has changed.

        A batch may hold fewer images than others, or none: every image of the update counts alike. Where no process
        has any, nothing happens and the result is None.
        """
        shown = self._sum(sum(len(labels) for _, labels in batches))
        if not shown:
            return None
        total = 0.0
        for (images, labels), rng in zip(batches, rngs):
            if not len(labels):
                continue
            with self._computing():
                loss = self.objective(self.model, images, labels, rng)
            share = loss * (len(labels) * self.world / shown)  # the processes' gradients are averaged
            (self.scaler.scale(share) if self.scaler else share).backward()
            total += float(share)
        total = self._sum(total) / self.world
        if not np.isfinite(total):
            self.optimizer.adamw.clear_grad()
            raise NotFiniteError(f"the loss is {total}")
        self._share_gradients()
        if self.scaler:
            self.scaler.unscale_(self.optimizer.adamw)
        self.optimizer.clip_gradients()
        self.optimizer.step(lr, self.scaler)
        if self.ema is not None:
            self.ema.update(self.model)
        return total

    def _computing(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        dtype = "bfloat16" if self.precision == "bf16" else "float16"
        return paddle.amp.auto_cast(dtype=dtype, level="O1")

    def _sum(self, value: float) -> float:
        """Over all processes."""
        if self.world == 1:
            return value
        shared = paddle.to_tensor([value], "float32")
        paddle.distributed.all_reduce(shared)
        return float(shared.item())

    def _share_gradients(self) -> None:
        """The mean over processes, as fleet's data parallelism takes it; it also works with recomputed blocks."""
        if self.world > 1:
            from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients

            parameters = list(self.optimizer.parameters.values())
            for parameter in parameters:
                if parameter.grad is None:  # this process had no images; one that keeps silent stalls the others
                    parameter.grad = paddle.zeros_like(parameter)
            fused_allreduce_gradients(parameters, None)


def best_precision() -> str:
    if paddle.get_device() == "cpu":
        return "fp32"
    return "bf16" if paddle.amp.is_bfloat16_supported() else "fp16"


def make_trainer(
    model: nn.Layer, recipe: Recipe, classes: int, teacher: Callable[[Tensor], Tensor] | None, world: int
) -> Trainer:
    """As ``recipe`` says, for the parameters of ``model`` that are not frozen."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if not p.stop_gradient}
    groups = parameter_groups(shapes, recipe.weight_decay, recipe.layer_decay)
    objective = Objective(
        classes,
        recipe.loss,
        recipe.smoothing,
        recipe.mixup,
        teacher,
        recipe.distillation_alpha,
        recipe.distillation_type,
        recipe.distillation_tau,
    )
    if recipe.grad_checkpointing:
        if not hasattr(model, "set_grad_checkpointing"):
            raise ConfigError(f"{type(model).__name__} cannot compute its blocks anew: leave grad_checkpointing out")
        model.set_grad_checkpointing(True)
    return Trainer(
        model,
        objective,
        Optimizer(model, groups, recipe.betas, recipe.opt_eps, recipe.clip_grad),
        Ema(model, recipe.model_ema_decay) if recipe.model_ema else None,
        recipe.amp,
        world,
    )
