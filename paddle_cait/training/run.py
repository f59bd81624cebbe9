"""A run from its first epoch, or from where it was killed, to its last.

All that is random follows from the seed and the place in the run (:mod:`paddle_cait.training.sampling`), so a state
holds no generators, and a resumed run ends with the weights of one that was never killed, to the last bit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from tqdm import tqdm

from paddle_cait.data.loader import Batch, ImageDataset, load_batches
from paddle_cait.data.train_transform import train_transform
from paddle_cait.data.transforms import eval_transform
from paddle_cait.engine.evaluate import evaluate
from paddle_cait.engine.processes import barrier, join_processes
from paddle_cait.engine.result import EvalResult
from paddle_cait.errors import PaddleCaitError
from paddle_cait.training.datasets import TrainingData
from paddle_cait.training.ema import Ema
from paddle_cait.training.groups import parameter_groups
from paddle_cait.training.history import Scalars, write_csv
from paddle_cait.training.optimizer import Optimizer
from paddle_cait.training.recipe import Recipe
from paddle_cait.training.samples import EpochImages
from paddle_cait.training.sampling import Plan, generator
from paddle_cait.training.schedule import Cosine
from paddle_cait.training.state import RunState, read_state, write_state
from paddle_cait.training.trainer import NotFiniteError, Objective, Trainer
from paddle_cait.versions import versions
from paddle_cait.weights.store import store_arrays

log = logging.getLogger("paddle_cait")

STATE, BEST, LAST, CSV = "last.state.safetensors", "best.pdparams", "last.pdparams", "log.csv"
_MIXING, _LAYERS = 1, 2  # what a generator is for, so that two never draw the same numbers


@dataclass
class Run:
    """``model`` learns ``data`` by ``recipe``; everything is kept in ``folder``.

    ``identity``: what must be the same for a state to be continued, and ``about``: what else is kept with the weights.
    """

    model: nn.Layer
    data: TrainingData
    recipe: Recipe
    folder: Path
    teacher: nn.Layer | None = None
    workers: int = 2
    eval_batch_size: int = 64
    on_error: str = "stop"
    visualdl: bool = False
    identity: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.rank, self.world = join_processes()
        self.plan = Plan(
            len(self.data.train), recipe.batch_size, recipe.seed, self.world, recipe.grad_accum_steps,
            recipe.repeated_aug,
        )  # fmt: skip
        updates = self.plan.updates
        self.schedule = Cosine(
            recipe.rate(self.plan.global_batch),
            recipe.epochs * updates,
            round(recipe.warmup_epochs * updates),
            recipe.warmup_lr,
            recipe.min_lr,
            1 if recipe.sched_on_updates else updates,
        )
        self.trainer = self._trainer()
        self.transform = train_transform(self.model, recipe.augmentation)
        self.val = ImageDataset(self.data.val, eval_transform(self.model))
        self.epoch = self.first_update = 0
        self.best = -1.0
        self.losses: list[float] = []  # of the epoch's updates so far

    def _trainer(self) -> Trainer:
        recipe, model = self.recipe, self.model
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if not p.stop_gradient}
        groups = parameter_groups(shapes, recipe.weight_decay, recipe.layer_decay)
        objective = Objective(
            self.data.num_classes,
            recipe.loss,
            recipe.smoothing,
            recipe.mixup,
            self.teacher,
            recipe.distillation_alpha,
            recipe.distillation_type,
            recipe.distillation_tau,
        )
        if recipe.grad_checkpointing:
            model.set_grad_checkpointing(True)
        return Trainer(
            model,
            objective,
            Optimizer(model, groups, recipe.betas, recipe.opt_eps, recipe.clip_grad),
            Ema(model, recipe.model_ema_decay) if recipe.model_ema else None,
            recipe.amp,
            self.world,
        )

    def resume(self) -> None:
        """Continue from the state in the folder. Raises :class:`PaddleCaitError` if it is another run's."""
        state = read_state(self.folder / STATE)
        for key, value in self.identity.items():
            if state.about["identity"].get(key) != value:
                raise PaddleCaitError(
                    f"{self.folder / STATE}: was written with {key} {state.about['identity'].get(key)!r}, now it is "
                    f"{value!r}: resume with the same settings, or choose another --output-dir"
                )
        as_tensors = {name: paddle.to_tensor(values) for name, values in state.arrays["model"].items()}
        self.model.set_state_dict(as_tensors)
        self.trainer.optimizer.restore(state.arrays.get("optimizer", {}))
        if self.trainer.ema is not None:
            for name, values in state.arrays["ema"].items():
                self.trainer.ema.average[name].set_value(values)
        if self.trainer.scaler is not None:
            self.trainer.scaler.load_state_dict(state.about["scaler"])
        self.epoch, self.first_update = state.about["epoch"], state.about["update"]
        self.best, self.history, self.losses = (state.about[key] for key in ("best", "history", "losses"))
        log.info("resumed at epoch %d, update %d of %d", self.epoch + 1, self.first_update, self.plan.updates)

    def go(self) -> list[dict[str, Any]]:
        """All epochs that are left; returns the history, a row an epoch."""
        scalars = Scalars(self.folder / "visualdl" if self.visualdl and self.rank == 0 else None)
        try:
            while self.epoch < self.recipe.epochs:
                row = self._learn()
                result = self._evaluate_average()
                row.update(val_loss=result.loss, val_top1=result.top1, val_top5=result.top5)
                row.update(val_top1_correct=result.top1_correct, val_n=result.n)
                self.history.append(row)
                scalars.add(row)
                self._keep(result)
        finally:
            scalars.close()
        return self.history

    def _learn(self) -> dict[str, Any]:
        """One epoch, or what is left of it."""
        self.model.train()
        images = EpochImages(self.data.train, self.transform, self.plan.order(self.epoch), self.recipe.seed, self.epoch)
        if self.first_update == 0:
            self.losses = []
        waiting = 0.0
        lr = 0.0
        started = time.perf_counter()
        bar = tqdm(
            total=self.plan.updates,
            initial=self.first_update,
            desc=f"epoch {self.epoch + 1}/{self.recipe.epochs}",
            unit="update",
            disable=None if self.rank == 0 else True,
        )
        asked = time.perf_counter()
        with bar:
            for update, batches in enumerate(self._updates(images), self.first_update):
                waiting += time.perf_counter() - asked
                lr = self.schedule(self.epoch * self.plan.updates + update)
                self.losses.append(self._update(update, batches, lr, images))
                bar.update()
                seen = (update + 1 - self.first_update) * self.plan.global_batch
                rate = seen / (time.perf_counter() - started)
                bar.set_postfix_str(
                    f"loss {self.losses[-1]:.4f}, {rate:.1f} img/s, data {waiting:.1f} s", refresh=False
                )
                every = self.recipe.checkpoint_updates
                if every and (update + 1) % every == 0 and update + 1 < self.plan.updates:
                    self._save_state(self.epoch, update + 1)
                asked = time.perf_counter()
        seconds = time.perf_counter() - started
        return {
            "epoch": self.epoch + 1,
            "updates": (self.epoch + 1) * self.plan.updates,
            "lr": lr,
            "train_loss": float(np.mean(self.losses)),
            "images_per_second": (self.plan.updates - self.first_update) * self.plan.global_batch / seconds,
            "data_seconds": waiting,
            "seconds": seconds,
        }

    def _updates(self, images: EpochImages) -> Iterator[list[Batch]]:
        """The batches of each update, in order."""
        batches = self.plan.batches(self.rank, self.first_update)
        loader = load_batches(images, batches, self.workers, self.on_error)
        pending: list[Batch] = []
        for batch in loader:
            pending.append(batch)
            if len(pending) == self.recipe.grad_accum_steps:
                yield pending
                pending = []

    def _update(self, update: int, batches: Sequence[Batch], lr: float, images: EpochImages) -> float:
        place = [self.recipe.seed, self.epoch, update, self.rank]
        paddle.seed(int(np.random.default_rng([*place, _LAYERS]).integers(1 << 31)))  # stochastic depth, dropout
        rngs = [generator(*place, step, _MIXING) for step in range(len(batches))]
        given = [(_on_device(batch.images), batch.labels) for batch in batches]
        try:
            return self.trainer.update(given, lr, rngs)
        except NotFiniteError as error:
            names = [images.path(int(place)) for batch in batches for place in batch.indices]
            kept = f"the last good state is {self.folder / STATE}" if (self.folder / STATE).exists() else "no state yet"
            raise PaddleCaitError(
                f"epoch {self.epoch + 1}, update {update + 1}: {error}, learning rate {lr:.3g}; {kept}. Lower the "
                f"rate, or look at this batch: {', '.join(names)}"
            ) from error

    def evaluate(self) -> EvalResult:
        """The model as it is, on the validation images."""
        self.model.eval()
        return evaluate(self.model, self.val, batch_size=self.eval_batch_size, workers=self.workers)

    def _evaluate_average(self) -> EvalResult:
        """Of the average where there is one: that is what is kept as best."""
        if self.trainer.ema is None:
            return self.evaluate()
        with self.trainer.ema.applied(self.model):
            return self.evaluate()

    def _keep(self, result: EvalResult) -> None:
        """After an epoch: the log, the best weights so far, and the state to go on from."""
        if result.top1 > self.best:
            self.best = result.top1
            self._save_weights(BEST)
        if self.epoch + 1 == self.recipe.epochs:
            self._save_weights(LAST)
        self.epoch, self.first_update = self.epoch + 1, 0
        if self.rank == 0:
            write_csv(self.folder / CSV, self.history)
        self._save_state(self.epoch, 0)

    def _save_weights(self, name: str) -> None:
        """With all that is needed to use them elsewhere: the model, its size, what the classes are called."""
        if self.rank != 0:
            return
        about = {
            "model": self.model.preset.full_name,
            "num_classes": self.data.num_classes,
            "img_size": list(self.model.img_size),
            "class_names": self.data.names,
            "epoch": self.epoch + 1,
            "top1": self.history[-1]["val_top1"] if self.history else None,
            "run": self.identity,
            "versions": versions(),
        }
        weights = self.model.state_dict() if self.trainer.ema is None else self.trainer.ema.average
        store_arrays(self.folder / name, _numpy(weights), about)

    def _save_state(self, epoch: int, update: int) -> None:
        if self.rank == 0:
            arrays = {"model": _numpy(self.model.state_dict()), "optimizer": self.trainer.optimizer.state()}
            if self.trainer.ema is not None:
                arrays["ema"] = _numpy(self.trainer.ema.average)
            scaler = self.trainer.scaler.state_dict() if self.trainer.scaler is not None else None
            about = {"epoch": epoch, "update": update, "best": self.best, "history": self.history}
            about["losses"] = self.losses if update else []
            write_state(self.folder / STATE, RunState(arrays, {**about, "scaler": scaler, "identity": self.identity}))
        barrier(self.world)


def _numpy(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in tensors.items()}


def _on_device(images: paddle.Tensor) -> paddle.Tensor:
    return images if paddle.get_device() == "cpu" else images.cuda()
