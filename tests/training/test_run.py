"""Whole runs on small pictures: what they learn, what they keep, and that a kill leaves no trace in the weights."""

import json

import numpy as np
import paddle
import pytest
from make_run import (
    CLASSES,
    arrays,
    assert_close_weights,
    assert_same_weights,
    log_rows,
    recipe,
    run_command,
    train,
    words,
)

import paddle_cait as pc
from paddle_cait.data.train_transform import Augmentation
from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.training.mixup import Mixup
from paddle_cait.training.state import read_state
from paddle_cait.training.trainer import Trainer, best_precision


def test_a_run_learns_and_keeps_what_it_says(start, photos, tmp_path):
    plain = recipe(epochs=8, mixup=Mixup(0, 0), augmentation=Augmentation(aa="none", reprob=0.0, color_jitter=0.0))
    result = train(start, photos, tmp_path / "out", plain)
    assert result.best_top1 == 100.0 and len(result.history) == 8
    assert result.history[-1]["train_loss"] < 0.7 * result.history[0]["train_loss"]
    rows = log_rows(tmp_path / "out")
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9)) and rows[-1]["val_n"] == "12"
    about = json.loads((tmp_path / "out" / "best.pdparams.json").read_text())
    assert about["class_names"] == list(CLASSES) and about["num_classes"] == 3
    assert (tmp_path / "out" / "labels.txt").read_text().split() == list(CLASSES)
    tiny = pc.get_preset(start[0].name, start[1].parent / "presets.yaml")
    model = pc.create_model(tiny, result.best, num_classes=3)
    model.eval()
    again = pc.evaluate(model, photos, list_file=photos / "val_list.txt")
    best = result.history[result.best_epoch - 1]
    assert (again.n, again.top1_correct) == (best["val_n"], best["val_top1_correct"])


def test_the_summary_counts_what_the_log_counts(start, photos, tmp_path):
    result = train(start, photos, tmp_path / "out", recipe(epochs=1, warmup_epochs=0))
    table = [row.split(",") for row in (tmp_path / "out" / "confusion.csv").read_text().splitlines()]
    assert table[0][1:] == [row[0] for row in table[1:]] == list(CLASSES)
    counts = np.array([[int(cell) for cell in row[1:]] for row in table[1:]])
    assert counts.sum(1).tolist() == [4, 4, 4]
    assert np.trace(counts) == result.history[0]["val_top1_correct"]
    about = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert sum(one["correct"] for one in about["classes"]) == np.trace(counts)
    assert result.lines[0] in ("worst classes:", "no mistakes")


def test_workers_change_nothing(start, photos, tmp_path):
    train(start, photos, tmp_path / "a", recipe(epochs=1, warmup_epochs=0))
    train(start, photos, tmp_path / "b", recipe(epochs=1, warmup_epochs=0), workers=2)
    assert_same_weights(tmp_path / "a" / "last.pdparams", tmp_path / "b" / "last.pdparams")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [0, 1, 4, 5, 7, 13, 17])
def test_a_run_that_is_cut_off_ends_with_the_same_weights(at, start, photos, tmp_path, monkeypatch):
    settings = recipe(checkpoint_updates=2)
    whole = train(start, photos, tmp_path / "whole", settings)
    original, calls = Trainer.update, []

    def update(self, *args):
        if len(calls) == at:
            raise Killed
        calls.append(1)
        return original(self, *args)

    monkeypatch.setattr(Trainer, "update", update)
    with pytest.raises(Killed):
        train(start, photos, tmp_path / "cut", settings)
    monkeypatch.setattr(Trainer, "update", original)
    resumable = (tmp_path / "cut" / "last.state.safetensors").exists()
    assert resumable == (at >= 2)
    again = train(start, photos, tmp_path / "cut", settings, resume=resumable)
    assert_same_weights(tmp_path / "whole" / "last.pdparams", tmp_path / "cut" / "last.pdparams")
    assert_same_weights(tmp_path / "whole" / "best.pdparams", tmp_path / "cut" / "best.pdparams")
    timed = ("seconds", "images_per_second", "data_seconds")
    for one, other in zip(whole.history, again.history):
        assert {k: v for k, v in one.items() if k not in timed} == {k: v for k, v in other.items() if k not in timed}


def test_two_processes_are_one(start, photos, tmp_path):
    """The same global batch: the same weights but for the order of sums."""
    flags = ("--drop-path", "0", "--seed", "3")
    run_command(words(start, photos, tmp_path / "one", *flags, "-b", "6"), tmp_path)
    run_command(words(start, photos, tmp_path / "two", *flags, "-b", "3"), tmp_path, number=2)
    assert_close_weights(tmp_path / "one" / "last.pdparams", tmp_path / "two" / "last.pdparams", 1e-5)
    rows = [log_rows(tmp_path / name) for name in ("one", "two")]
    for one, two in zip(*rows):
        assert one["val_n"] == two["val_n"] == "12" and one["val_top1_correct"] == two["val_top1_correct"]


def test_accumulated_steps_are_one_large_step(start, photos, tmp_path):
    base = {"epochs": 1, "warmup_epochs": 0, "drop_path": 0.0, "mixup": Mixup(0, 0)}
    train(start, photos, tmp_path / "a", recipe(**base, batch_size=6))
    train(start, photos, tmp_path / "b", recipe(**base, batch_size=3, grad_accum_steps=2))
    assert_close_weights(tmp_path / "a" / "last.pdparams", tmp_path / "b" / "last.pdparams", 2e-5)


def test_gradient_checkpointing_changes_nothing(start, photos, tmp_path):
    base = {"epochs": 1, "warmup_epochs": 0}
    train(start, photos, tmp_path / "a", recipe(**base))
    train(start, photos, tmp_path / "b", recipe(**base, grad_checkpointing=True))
    assert_close_weights(tmp_path / "a" / "last.pdparams", tmp_path / "b" / "last.pdparams", 1e-5)


def test_only_the_head_learns(start, photos, tmp_path):
    train(start, photos, tmp_path / "out", recipe(epochs=1, warmup_epochs=0, tune="head", model_ema=False))
    state = arrays(tmp_path / "out" / "last.pdparams")
    with np.load(start[1]) as before:
        kept = [name for name in before.files if not name.startswith("head") and before[name].ndim != 2]
        assert kept and all(np.array_equal(before[name], state[name]) for name in kept)
    moments = read_state(tmp_path / "out" / "last.state.safetensors").arrays["optimizer"]
    assert {key.split(":")[0] for key in moments} == {"head.weight", "head.bias"}


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_distillation(kind, start, photos, tmp_path):
    teacher = train(start, photos, tmp_path / "teacher", recipe(epochs=2))
    result = train(start, photos, tmp_path / "out", recipe(epochs=2, distillation_type=kind),
                   teacher_model=start[0].name, teacher_weights=teacher.best)  # fmt: skip
    assert np.isfinite(result.history[-1]["train_loss"])


def test_a_loss_that_is_no_number_stops_the_run(start, photos, tmp_path, monkeypatch):
    original, calls = Trainer.update, []

    def update(self, batches, lr, rngs):
        calls.append(1)
        if len(calls) == 8:
            images, labels = batches[0]
            batches = [(images * float("nan"), labels)]
        return original(self, batches, lr, rngs)

    monkeypatch.setattr(Trainer, "update", update)
    with pytest.raises(PaddleCaitError, match=r"epoch 2, update 2: the loss is nan.*last\.state\.safetensors.*\.png"):
        train(start, photos, tmp_path / "out")
    state = read_state(tmp_path / "out" / "last.state.safetensors")
    assert state.about["epoch"] == 1
    assert all(np.isfinite(value).all() for value in state.arrays["model"].values())


def test_resuming_another_run_is_refused(start, photos, tmp_path):
    train(start, photos, tmp_path / "out", recipe(epochs=1, warmup_epochs=0))
    with pytest.raises(ConfigError, match="holds a run already; --resume"):
        train(start, photos, tmp_path / "out", recipe(epochs=1, warmup_epochs=0))
    with pytest.raises(PaddleCaitError, match="setting lr 0.001, now it is 0.002"):
        train(start, photos, tmp_path / "out", recipe(epochs=1, warmup_epochs=0, lr=2e-3), resume=True)
    (photos / "labels.txt").write_text("a\nb\nc\n")
    with pytest.raises(PaddleCaitError, match=r"was written with class names \['blue'.*now it is \['a'"):
        train(start, photos, tmp_path / "out", recipe(epochs=1, warmup_epochs=0), resume=True)
    assert (tmp_path / "out" / "labels.txt").read_text().split() == list(CLASSES)
    (tmp_path / "out" / "last.state.safetensors").unlink()  # killed between the best weights and the first state
    train(start, photos, tmp_path / "out", recipe(epochs=1, warmup_epochs=0))
    with pytest.raises(PaddleCaitError, match="nothing to resume"):
        train(start, photos, tmp_path / "other", resume=True)


def test_what_stands_in_a_batch_does_not_depend_on_who_asks():
    from paddle_cait.training.sampling import Plan

    one, two = Plan(101, 8, seed=3), Plan(101, 4, seed=3, world=2)
    assert one.updates == two.updates == 12
    for step, (whole, first, second) in enumerate(zip(one.batches(0), two.batches(0), two.batches(1))):
        assert sorted(first + second) == whole == list(range(8 * step, 8 * step + 8))
    assert sorted(one.order(0)) == list(range(101)) and (one.order(0) != one.order(1)).any()
    assert one.batches(0, first=5) == one.batches(0)[5:]
    repeated = Plan(1000, 8, world=2, repeats=3)
    order = repeated.order(0)
    assert len(order) == 768 and len(set(order)) == 256
    for step in zip(repeated.batches(0), repeated.batches(1)):
        shown = [set(order[places].tolist()) for places in step]
        assert shown[0] & shown[1]  # copies of an image meet in one update, in different processes


@pytest.mark.parametrize(
    ("device", "has_bf16", "expected"),
    [("cpu", True, "fp32"), ("gpu:0", True, "bf16"), ("gpu:0", False, "fp16")],
)
def test_the_best_precision_of_the_device(device, has_bf16, expected, monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: device)
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: has_bf16)
    assert best_precision() == expected
