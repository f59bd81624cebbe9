"""Everything that a fine-tuning run depends on, by timm's and DeiT's names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from paddle_cait.data.train_transform import Augmentation
from paddle_cait.errors import ConfigError
from paddle_cait.training.losses import LOSSES
from paddle_cait.training.mixup import Mixup
from paddle_cait.training.trainer import PRECISIONS

TUNES = ("all", "head", "linear")
DISTILLATIONS = ("none", "soft", "hard")


@dataclass(frozen=True)
class Recipe:
    """The defaults fine-tune an ImageNet or self-supervised checkpoint on a few thousand photographs.

    Args:
        epochs: of the training list.
        warmup_epochs: over which the rate rises in even steps; may be a part of one.
        batch_size: images a step and process.
        grad_accum_steps: steps an update.
        repeated_aug: each image of an epoch is shown so many times, of fewer images (Hoffer et al. 2020).
        lr: the highest rate itself; None takes ``lr_base`` times the images of an update over ``lr_base_size`` (DeiT's
            rule).
        warmup_lr: where the rate starts.
        min_lr: where it ends, by half a cosine.
        sched_on_updates: the rate changes at every update; otherwise once an epoch, as in DeiT's own runs.
        weight_decay, betas, opt_eps: of AdamW; vectors (biases, norms), tokens and tables do not decay.
        layer_decay: a layer learns at this to the power of its distance from the classifier; None: all alike.
        clip_grad: largest norm of all gradients together; None does not clip.
        tune: ``all``; ``head`` freezes everything but the classifier; ``linear`` fits the classifier to features
            computed once (:mod:`paddle_cait.training.probe`): epochs, rates, augmentation and losses play no part.
        drop_path: stochastic depth of the model in training; none where ``tune`` is ``head``.
        grad_checkpointing: recompute blocks in the backward pass, for less memory and more time.
        amp: ``fp32``, ``bf16``, ``fp16``, or ``auto``, what suits the device; weights stay float32.
        model_ema: keep a moving average of the weights, and evaluate that.
        model_ema_decay: what an update leaves of the average; between 0 and 1.
        loss: ``ce``, cross-entropy; ``bce``, DeiT III's binary one, which needs ``smoothing`` 0.
        smoothing: share of the target that is spread over all classes.
        augmentation: what happens to each image.
        mixup: how images and labels of a batch are mixed; the default is not at all.
        distillation_type: ``none``; ``hard``, the teacher's best class is a label; ``soft``, its probabilities are.
        distillation_alpha: the teacher's share of the loss.
        distillation_tau: temperature of ``soft``, above 0.
        seed: of the order of images, all that is random about them, and the new classifier's weights.
        checkpoint_updates: also keep the run's state every so many updates, not only after each epoch; 0 does not.

    Raises :class:`ConfigError` for values out of range.
    """

    epochs: int = 20
    batch_size: int = 32
    grad_accum_steps: int = 1
    repeated_aug: int = 1
    lr: float | None = None
    lr_base: float = 5e-4
    lr_base_size: int = 256
    warmup_epochs: float = 2.0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-6
    sched_on_updates: bool = True
    weight_decay: float = 0.05
    layer_decay: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    opt_eps: float = 1e-8
    clip_grad: float | None = 1.0
    tune: str = "all"
    drop_path: float = 0.1
    grad_checkpointing: bool = False
    amp: str = "fp32"
    model_ema: bool = False
    model_ema_decay: float = 0.9998
    loss: str = "ce"
    smoothing: float = 0.1
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixup: Mixup = field(default_factory=lambda: Mixup(0.0, 0.0))
    distillation_type: str = "none"
    distillation_alpha: float = 0.5
    distillation_tau: float = 1.0
    seed: int = 0
    checkpoint_updates: int = 0

    def __post_init__(self) -> None:
        _at_least(1, epochs=self.epochs, batch_size=self.batch_size, grad_accum_steps=self.grad_accum_steps)
        _at_least(1, repeated_aug=self.repeated_aug, lr_base_size=self.lr_base_size)
        _at_least(0, seed=self.seed, checkpoint_updates=self.checkpoint_updates, weight_decay=self.weight_decay)
        _at_least(0, lr=self.lr or 0, lr_base=self.lr_base, warmup_lr=self.warmup_lr, min_lr=self.min_lr)
        _one_of("tune", self.tune, TUNES)
        _one_of("amp", self.amp, PRECISIONS)
        _one_of("loss", self.loss, LOSSES)
        _one_of("distillation_type", self.distillation_type, DISTILLATIONS)
        _share(smoothing=self.smoothing, drop_path=self.drop_path, distillation_alpha=self.distillation_alpha)
        if self.loss == "bce" and self.smoothing:
            raise ConfigError(
                "loss: bce takes every class with a part in the target as right, and with smoothing that is all: set "
                "smoothing to 0"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas is {list(self.betas)}, expected two numbers of 0 or more and less than 1")
        if not 0 < self.opt_eps < 1 or (self.clip_grad is not None and not self.clip_grad > 0):
            raise ConfigError(f"opt_eps is {self.opt_eps}, clip_grad {self.clip_grad}: expected above 0")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ConfigError(
                f"warmup_epochs is {self.warmup_epochs:g}, more than the {self.epochs} epochs: give fewer, such as 0"
            )
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ConfigError(f"layer_decay is {self.layer_decay}, expected above 0, at most 1")
        if not 0 < self.model_ema_decay < 1 or self.distillation_tau <= 0:
            raise ConfigError(
                f"model_ema_decay is {self.model_ema_decay}, expected between 0 and 1; distillation_tau "
                f"{self.distillation_tau}, above 0"
            )

    def rate(self, global_batch: int) -> float:
        """The highest learning rate, for updates of so many images."""
        return self.lr if self.lr is not None else self.lr_base * global_batch / self.lr_base_size

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def _at_least(least: float, **values: float) -> None:
    for name, value in values.items():
        if not least <= value < float("inf"):
            raise ConfigError(f"{name} is {value}, expected at least {least}")


def _share(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name} is {value}, expected 0 or more and less than 1")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}, expected {', '.join(allowed)}")
