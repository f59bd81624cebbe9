"""From a checkpoint to the user's own classes: ``finetune`` builds what a run needs, runs it, and reports."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.factory import create_model
from paddle_cait.files import PathLike, write_atomic
from paddle_cait.training.datasets import TrainingData, open_training_data
from paddle_cait.training.recipe import Recipe
from paddle_cait.training.summary import write_summary
from paddle_cait.weights.apply import load_weights

log = logging.getLogger("paddle_cait")


@dataclass
class FinetuneResult:
    """``best_top1``: percent of the validation images, of the weights in ``best``. ``history``: a row an epoch.
    ``lines``: what the summary says."""

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
        model: a preset's name. Its classifier is replaced by one for the classes of the data.
        data_dir: see :func:`paddle_cait.training.datasets.open_training_data`.
        output_dir: gets ``best.pdparams``, ``last.pdparams``, ``log.csv``, ``labels.txt`` and the state to resume from.
        weights: any supported checkpoint; without it training starts from random weights.
        recipe: everything about how; see :class:`Recipe`.
        img_size: other pixels than the preset's.
        teacher_model, teacher_weights: for distillation; a classifier of the same classes.
        check: first see whether the loaded backbone tells the classes apart
            (:func:`paddle_cait.training.backbone_check.check_backbone`).
        resume: continue the run in ``output_dir``; its settings and data must be the same.

    Raises :class:`PaddleCaitError` for whatever is wrong with the data, the weights or the settings, before training.
    """
    import paddle

    from paddle_cait.training.backbone_check import check_backbone
    from paddle_cait.training.run import STATE, Run

    recipe = recipe or Recipe()
    folder = Path(output_dir)
    data = open_training_data(data_dir, train_list, val_list, class_names)
    for note in data.notes():
        log.warning(note)
    if (folder / STATE).exists() and not resume:
        raise ConfigError(f"{folder}: holds a run already; --resume continues it, another --output-dir keeps both")
    if weights is not None and check and not resume:
        backbone = create_model(model, weights, num_classes=0, img_size=img_size, preset_file=preset_file, entry=entry)
        check_backbone(backbone, data, folder / "check", recipe.batch_size, workers)
        del backbone
    paddle.seed(recipe.seed)  # the new classifier's weights
    learner = create_model(
        model,
        weights,
        num_classes=data.num_classes,
        img_size=img_size,
        preset_file=preset_file,
        entry=entry,
        drop_path_rate=recipe.drop_path,
    )
    _freeze(learner, recipe)
    teacher = _teacher(recipe, teacher_model, teacher_weights, data, learner, preset_file)
    _make_folder(folder, data)
    run = Run(learner, data, recipe, folder, teacher, workers, on_error=on_error, visualdl=visualdl)
    run.identity = _identity(learner, data, recipe, run.world)
    if resume:
        run.resume()
    history = run.go()
    best = max(history, key=lambda row: row["val_top1"])
    file = folder / "best.pdparams"
    load_weights(learner, file)
    found = run.evaluate()
    if found.top1_correct != best["val_top1_correct"]:
        raise PaddleCaitError(
            f"{file}: gives {found.top1_correct} right of {found.n}, in training it gave {best['val_top1_correct']}"
        )
    lines: list[str] = []
    if run.rank == 0:
        about = {"model": learner.preset.full_name, "best_epoch": best["epoch"], "run": run.identity}
        lines = write_summary(folder, data.names, found.rows, history, about)
    return FinetuneResult(folder, file, best["val_top1"], best["epoch"], history, data.names, lines)


def _freeze(model: Any, recipe: Recipe) -> None:
    if recipe.tune == "head":
        for name, parameter in model.named_parameters():
            parameter.stop_gradient = name.partition(".")[0] not in model.classifier


def _teacher(
    recipe: Recipe,
    name: str | None,
    weights: PathLike | None,
    data: TrainingData,
    learner: Any,
    preset_file: PathLike | None,
) -> Any:
    if recipe.distillation_type == "none":
        if name or weights:
            raise ConfigError("a teacher is given, but distillation_type is none: set hard or soft")
        return None
    if not name or not weights:
        raise ConfigError("distillation needs --teacher-model and --teacher-weights")
    teacher = create_model(
        name, weights, num_classes=data.num_classes, img_size=learner.img_size, preset_file=preset_file
    )
    ours, theirs = learner.preset.preprocess, teacher.preset.preprocess
    if (ours.mean, ours.std) != (theirs.mean, theirs.std):
        raise PaddleCaitError(
            f"{name} was trained on images normalised with mean {theirs.mean}, the student with {ours.mean}: "
            "take a teacher with the student's"
        )
    teacher.eval()
    return teacher


def _make_folder(folder: Path, data: TrainingData) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PaddleCaitError(f"{folder}: cannot be made ({error.strerror})") from error
    write_atomic(folder / "labels.txt", "".join(f"{name}\n" for name in data.names).encode())


def _identity(model: Any, data: TrainingData, recipe: Recipe, world: int) -> dict[str, Any]:
    """What must not change between a run and its continuation."""
    report = getattr(model, "load_report", None)
    return {
        "model": model.preset.full_name,
        "image size": list(model.img_size),
        "weights": report.sha256 if report else "",
        "training images": data.train.fingerprint,
        "validation images": data.val.fingerprint,
        "processes": world,
        **{f"setting {key}": _plain(value) for key, value in dataclasses.asdict(recipe).items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
