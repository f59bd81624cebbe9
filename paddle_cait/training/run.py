"""A run from its first epoch, or from where it was killed, to its last.

All that is random follows from the seed and the place in the run (:mod:`paddle_cait.training.sampling`), so a state
holds no generators, and a resumed run ends with the weights of one that was never killed, to the last bit.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
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
from paddle_cait.errors import DataError, PaddleCaitError
from paddle_cait.training.datasets import TrainingData
from paddle_cait.training.history import Scalars, scores, standing, write_csv
from paddle_cait.training.keep import keep_weights
from paddle_cait.training.recipe import Recipe
from paddle_cait.training.samples import EpochImages, Unreadable
from paddle_cait.training.sampling import Plan, generator
from paddle_cait.training.schedule import Cosine
from paddle_cait.training.state import check_identity, read_state, restore, state_of, write_state
from paddle_cait.training.trainer import NotFiniteError, make_trainer

log = logging.getLogger("paddle_cait")

STATE, BEST, LAST, CSV = "last.state.safetensors", "best.pdparams", "last.pdparams", "log.csv"
EVAL_BATCH_SIZE = 64
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
    teacher: Callable[[paddle.Tensor], paddle.Tensor] | None = None
    workers: int = 2
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
        self.trainer = make_trainer(self.model, recipe, self.data.num_classes, self.teacher, self.world)
        self.transform = train_transform(self.model, recipe.augmentation)
        self.val = ImageDataset(self.data.val, eval_transform(self.model))
        self.epoch = self.first_update = 0
        self.losses: list[float] = []  # of the epoch's updates so far
        self.unreadable = Unreadable(self.world)

    def resume(self) -> None:
        """Continue from the state in the folder. Raises :class:`PaddleCaitError` if it is another run's."""
        path = self.folder / STATE
        state = read_state(path)
        about = state.about
        check_identity(state, self.identity, path)
        restore(self.trainer, state, path)
        self.epoch, self.first_update = about["epoch"], about["update"]
        self.history, self.losses = about["history"], about["losses"]
        self.unreadable = Unreadable(self.world, about.get("unreadable"))
        log.info("resumed at epoch %d, update %d of %d", self.epoch + 1, self.first_update, self.plan.updates)

    def go(self) -> list[dict[str, Any]]:
        """All epochs that are left; returns the history, a row an epoch."""
        scalars = Scalars(self.folder / "visualdl" if self.visualdl and self.rank == 0 else None)
        try:
            while self.epoch < self.recipe.epochs:
                row = self._learn()
                result = self._evaluate_average()
                self.unreadable.share()
                row.update(scores(result), unreadable=len(self.unreadable.messages))
                self.history.append(row)
                scalars.add(row)
                self._keep()
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
                loss = self._update(update, batches, lr, images)
                self.losses += [] if loss is None else [loss]
                bar.update()
                seen = (update + 1 - self.first_update) * self.plan.global_batch
                rate = seen / (time.perf_counter() - started)
                shown = "" if loss is None else f"loss {loss:.4f}, "
                bar.set_postfix_str(f"{shown}{rate:.1f} img/s, data {waiting:.1f} s", refresh=False)
                every = self.recipe.checkpoint_updates
                if every and (update + 1) % every == 0 and update + 1 < self.plan.updates:
                    self._save_state(self.epoch, update + 1)
                asked = time.perf_counter()
        seconds = time.perf_counter() - started
        if not self.losses:
            first = next(iter(self.unreadable.messages.values()))
            raise DataError(f"epoch {self.epoch + 1}: not one training image could be read; the first: {first}")
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
            self.unreadable.add((images.path(place), message) for place, message in batch.failed)
            pending.append(batch)
            if len(pending) == self.recipe.grad_accum_steps:
                yield pending
                pending = []

    def _update(self, update: int, batches: Sequence[Batch], lr: float, images: EpochImages) -> float | None:
        place = [self.recipe.seed, self.epoch, update, self.rank]
        paddle.seed(int(np.random.default_rng([*place, _LAYERS]).integers(1 << 31)))  # stochastic depth, dropout
        rngs = [generator(*place, step, _MIXING) for step in range(len(batches))]
        given = [(_on_device(batch.images), batch.labels) for batch in batches]
        try:
            return self.trainer.update(given, lr, rngs)
        except NotFiniteError as error:
            names = [images.path(int(place)) for batch in batches for place in batch.indices]
            state = self.folder / STATE
            raise PaddleCaitError(
                f"epoch {self.epoch + 1}, update {update + 1}: {error}, learning rate {lr:.3g}; the last good state is "
                f"{state if state.exists() else 'not written yet'}. Begin anew with a lower rate in another folder, or "
                f"look at this batch: {', '.join(names)}"
            ) from error

    def evaluate(self) -> EvalResult:
        """The model as it is, on the validation images."""
        self.model.eval()
        result = evaluate(
            self.model, self.val, batch_size=EVAL_BATCH_SIZE, workers=self.workers, on_error=self.on_error
        )
        self.unreadable.add((self.data.val.path(index), message) for index, message in result.skipped)
        if not result.n:
            raise DataError(f"not one validation image could be read; the first: {result.skipped[0][1]}")
        return result

    def _evaluate_average(self) -> EvalResult:
        """Of the average where there is one: that is what is kept as best."""
        if self.trainer.ema is None:
            return self.evaluate()
        with self.trainer.ema.applied(self.model):
            return self.evaluate()

    def _keep(self) -> None:
        """After an epoch: the log, the best weights so far, and the state to go on from."""
        if max(self.history, key=standing) is self.history[-1]:
            self._save_weights(BEST)
        if self.epoch + 1 == self.recipe.epochs:
            self._save_weights(LAST)
        self.epoch, self.first_update = self.epoch + 1, 0
        if self.rank == 0:
            with self._writing():
                write_csv(self.folder / CSV, self.history)
        self._save_state(self.epoch, 0)

    def _save_weights(self, name: str) -> None:
        if self.rank != 0:
            return
        weights = self.model.state_dict() if self.trainer.ema is None else self.trainer.ema.average
        top1 = self.history[-1]["val_top1"] if self.history else None
        arrays = {key: value.numpy() for key, value in weights.items()}
        with self._writing():
            keep_weights(self.folder / name, self.model, arrays, self.data.names, self.epoch + 1, top1, self.identity)

    def _save_state(self, epoch: int, update: int) -> None:
        self.unreadable.share()
        if self.rank == 0:
            about = {"epoch": epoch, "update": update, "history": self.history}
            about.update(losses=self.losses if update else [], identity=self.identity)
            about["unreadable"] = self.unreadable.messages
            with self._writing():
                write_state(self.folder / STATE, state_of(self.trainer, about))
        barrier(self.world)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A full disk is one line; what was there before is still there."""
        try:
            yield
        except PaddleCaitError as error:
            raise PaddleCaitError(f"{error}; {self._kept()}. Make room first") from error

    def _kept(self) -> str:
        path = self.folder / STATE
        return f"--resume goes on from {path}" if path.exists() else "there is no state to resume from yet"


def _on_device(images: paddle.Tensor) -> paddle.Tensor:
    return images if paddle.get_device() == "cpu" else images.cuda()
