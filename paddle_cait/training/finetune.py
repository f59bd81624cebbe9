"""From a checkpoint to the user's own classes: ``finetune`` builds what a run needs, runs it, and reports."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paddle

from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.transforms import eval_transform
from paddle_cait.engine.evaluate import evaluate
from paddle_cait.engine.processes import barrier, join_processes
from paddle_cait.engine.result import EvalResult
from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.factory import create_model
from paddle_cait.files import PathLike, write_atomic
from paddle_cait.training.backbone_check import check_backbone
from paddle_cait.training.datasets import TrainingData, open_training_data
from paddle_cait.training.history import scores, standing, visualdl_writer, write_csv
from paddle_cait.training.keep import keep_weights
from paddle_cait.training.probe import probe
from paddle_cait.training.recipe import Recipe
from paddle_cait.training.run import BEST, CSV, EVAL_BATCH_SIZE, STATE, Run
from paddle_cait.training.summary import write_summary
from paddle_cait.training.teacher import open_teacher
from paddle_cait.weights.apply import load_weights

log = logging.getLogger("paddle_cait")


@dataclass
class FinetuneResult:
    """``folder``: the run's. ``best_top1``: percent of the validation images, of the weights in ``best``, after
    ``best_epoch`` epochs. ``history``: a row an epoch, by the columns of ``log.csv``. ``names``: of the classes.
    ``lines``: what the summary says; empty but in the first process."""

    folder: Path
    best: Path
    best_top1: float
    best_epoch: int
    history: list[dict[str, Any]] = field(repr=False)
    names: list[str] = field(repr=False)
    lines: list[str] = field(default_factory=list, repr=False)


def finetune(
    model: str,
    data_dir: PathLike,
    output_dir: PathLike,
    weights: PathLike | None = None,
    recipe: Recipe | None = None,
    *,
    entry: str | None = None,
    train_list: PathLike | None = None,
    val_list: PathLike | None = None,
    class_names: PathLike | None = None,
    img_size: int | None = None,
    preset_file: PathLike | None = None,
    teacher_model: str | None = None,
    teacher_weights: PathLike | None = None,
    resume: bool = False,
    workers: int = 2,
    on_error: str = "stop",
    check: bool = True,
    visualdl: bool = False,
) -> FinetuneResult:
    """Train ``model`` on the photographs in ``data_dir``.

    Args:
        model: a preset's name. Its classifier is replaced by one for the classes of the data, or goes on learning if
            the weights have one for as many.
        data_dir: see :func:`paddle_cait.training.datasets.open_training_data`.
        output_dir: gets ``best.pdparams``, ``last.pdparams``, ``log.csv``, ``labels.txt`` and the state to resume from.
        weights: any supported checkpoint; without it training starts from random weights. ``entry``: which set of a
            training checkpoint's, such as ``model_ema``.
        train_list, val_list, class_names: files, if they are not ``train_list.txt``, ``val_list.txt`` and
            ``labels.txt`` in ``data_dir``.
        recipe: everything about how; see :class:`Recipe`.
        img_size: other pixels than the preset's.
        teacher_model, teacher_weights: for distillation; a classifier of the same classes.
        check: first see whether the loaded backbone tells the classes apart
            (:func:`paddle_cait.training.backbone_check.check_backbone`).
        resume: continue the run in ``output_dir``; its settings and data must be the same.
        preset_file: YAML file of your own presets, where ``model`` is defined.
        workers: processes that read photographs ahead; 0 reads them in this one.
        on_error: ``stop`` at a photograph that cannot be read, or ``skip`` it.
        visualdl: also write scalars for VisualDL, below ``output_dir``.

    Raises :class:`PaddleCaitError` for whatever is wrong with the data, the weights or the settings, before training;
    later for photographs that cannot be read and a loss that is not finite.
    """
    recipe, folder = recipe or Recipe(), Path(output_dir)
    data = open_training_data(data_dir, train_list, val_list, class_names)
    for note in data.notes():
        log.warning(note)
    build = functools.partial(create_model, model, weights, img_size=img_size, preset_file=preset_file, entry=entry)
    job = _Job(build, data, recipe, folder, workers, on_error)
    job.check_folder(resume)
    if recipe.tune == "linear":
        if weights is None:
            raise ConfigError("tune: linear needs --weights: the features of random weights tell nothing")
        learner, history, about = _probe(job)
    else:
        if visualdl:
            visualdl_writer()  # is it installed?
        run = _prepare(job, (teacher_model, teacher_weights, preset_file), resume, visualdl)
        if weights is not None and check and not resume:
            check_backbone(build(num_classes=0), data, folder / "check", recipe.batch_size, workers, on_error)
        job.make_folder()
        learner, history = run.model, run.go()
        about = {"run": run.identity, "unreadable": run.unreadable.messages}
    return _finish(job, learner, history, about)


@dataclass(frozen=True)
class _Job:
    """What every way of training needs. ``build(num_classes=n)`` is the model with its weights."""

    build: Callable[..., Any]
    data: TrainingData
    recipe: Recipe
    folder: Path
    workers: int
    on_error: str

    def check_folder(self, resume: bool) -> None:
        kept = BEST if self.recipe.tune == "linear" else STATE  # best weights without a state: killed before the first
        if (self.folder / kept).exists() and not resume:
            raise ConfigError(
                f"{self.folder}: holds a run already; --resume continues it, another --output-dir keeps both"
            )

    def make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PaddleCaitError(f"{self.folder}: cannot be made ({error.strerror})") from error
        write_atomic(self.folder / "labels.txt", "".join(f"{name}\n" for name in self.data.names).encode())

    def evaluate(self, model: Any) -> EvalResult:
        model.eval()
        val = ImageDataset(self.data.val, eval_transform(model))
        return evaluate(model, val, batch_size=EVAL_BATCH_SIZE, workers=self.workers, on_error=self.on_error)


def _prepare(
    job: _Job, teaching: tuple[str | None, PathLike | None, PathLike | None], resume: bool, visualdl: bool
) -> Run:
    """Whatever is wrong with settings, weights or an earlier state is found here; nothing is written yet."""
    recipe, data = job.recipe, job.data
    paddle.seed(recipe.seed)  # the new classifier's weights
    frozen = recipe.tune == "head"
    learner = job.build(num_classes=data.num_classes, drop_path_rate=0.0 if frozen else recipe.drop_path)
    if frozen:
        for name, parameter in learner.named_parameters():
            parameter.stop_gradient = not name.startswith(learner.classifier)
    teacher = None
    if recipe.distillation_type != "none":
        teacher = open_teacher(*teaching, learner, data.num_classes)
    elif any(teaching[:2]):
        raise ConfigError("a teacher is given, but distillation_type is none: set hard or soft")
    run = Run(learner, data, recipe, job.folder, teacher, job.workers, on_error=job.on_error, visualdl=visualdl)
    run.identity = {**_identity(learner, data, recipe, run.world), "teacher": teacher.sha256 if teacher else ""}
    if resume:
        run.resume()
    return run


def _probe(job: _Job) -> tuple[Any, list[dict[str, Any]], dict[str, Any]]:
    recipe = job.recipe
    job.make_folder()
    model, row, failed = probe(
        job.build, job.data, job.folder / "features", batch_size=recipe.batch_size, workers=job.workers,
        on_error=job.on_error, seed=recipe.seed,
    )  # fmt: skip
    rank, world = join_processes()
    found = job.evaluate(model)
    row.update(scores(found), unreadable=len(failed) + len(found.skipped))
    identity = _identity(model, job.data, recipe, world)
    if rank == 0:
        arrays = {name: value.numpy() for name, value in model.state_dict().items()}
        keep_weights(job.folder / BEST, model, arrays, job.data.names, 1, row["val_top1"], identity)
        write_csv(job.folder / CSV, [row])
    barrier(world)
    unreadable = {job.data.train.path(index): message for index, message in failed}
    unreadable.update((job.data.val.path(index), message) for index, message in found.skipped)
    return model, [row], {"run": identity, "unreadable": unreadable}


def _finish(job: _Job, learner: Any, history: list[dict[str, Any]], about: dict[str, Any]) -> FinetuneResult:
    """The best weights once more, from their file: they must give what was counted when they were kept."""
    best = max(history, key=standing)
    file = job.folder / BEST
    load_weights(learner, file)
    found = job.evaluate(learner)
    if found.top1_correct != best["val_top1_correct"]:
        raise PaddleCaitError(
            f"{file}: gives {found.top1_correct} right of {found.n}, in training it gave {best['val_top1_correct']}"
        )
    lines: list[str] = []
    if join_processes()[0] == 0:
        about = {"model": learner.preset.full_name, "best_epoch": best["epoch"], **about}
        lines = write_summary(job.folder, job.data.names, found.rows, history, about)
    return FinetuneResult(job.folder, file, best["val_top1"], best["epoch"], history, job.data.names, lines)


def _identity(model: Any, data: TrainingData, recipe: Recipe, world: int) -> dict[str, Any]:
    """What must not change between a run and its continuation."""
    report = getattr(model, "load_report", None)
    return {
        "model": model.preset.full_name,
        "image size": list(model.img_size),
        "weights": report.sha256 if report else "",
        "training images": data.train.fingerprint,
        "validation images": data.val.fingerprint,
        "class names": data.names,
        "processes": world,
        **{f"setting {key}": _plain(value) for key, value in dataclasses.asdict(recipe).items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
