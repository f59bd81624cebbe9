"""Whole runs on small pictures: what they learn, what they keep, and that a kill leaves no trace in the weights."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
from helpers import ROOT, draw_state, npz, official_shapes, preset
from PIL import Image

import paddle_cait as pc
from paddle_cait.data.train_transform import Augmentation
from paddle_cait.errors import ConfigError, DataError, PaddleCaitError
from paddle_cait.training.finetune import finetune
from paddle_cait.training.mixup import Mixup
from paddle_cait.training.recipe import Recipe
from paddle_cait.training.state import read_state
from paddle_cait.training.trainer import Trainer
from paddle_cait.weights.readers import open_checkpoint

CLASSES = ("blue", "green", "red")


@pytest.fixture
def photos(tmp_path):
    """Three classes of noise, each of another colour; 10 images to train with and 4 to validate each."""
    rng = np.random.RandomState(0)
    root = tmp_path / "photos"
    lines = {"train": [], "val": []}
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(14):
            pixels = rng.randint(0, 120, (40, 44, 3))
            pixels[:, :, 2 - label] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i:02d}.png")
            lines["train" if i < 10 else "val"].append(f"{name}/{i:02d}.png {label}\n")
    for part, rows in lines.items():
        (root / f"{part}_list.txt").write_text("".join(rows))
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return root


@pytest.fixture
def start(tmp_path):
    """A shrunk CaiT with drawn weights of seven classes."""
    tiny = preset(tmp_path)
    return tiny, npz(tmp_path / "drawn.npz", draw_state(official_shapes(tiny)))


def recipe(**changes):
    values = {"epochs": 3, "batch_size": 5, "lr": 1e-3, "warmup_epochs": 1, "drop_path": 0.2, "seed": 4,
              "mixup": Mixup(0.8, 1.0), "model_ema": True, "model_ema_decay": 0.9, "layer_decay": 0.8}  # fmt: skip
    return Recipe(**{**values, **changes})


def train(start, photos, folder, settings=None, **options):
    tiny, weights = start
    return finetune(tiny.name, photos, folder, weights, settings or recipe(), workers=options.pop("workers", 0),
                    preset_file=weights.parent / "presets.yaml", **options)  # fmt: skip


def arrays(path):
    with open_checkpoint(path) as checkpoint:
        return {name: ref.read() for name, ref in checkpoint.tree.items()}


def log_rows(folder):
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


def assert_same_weights(one, other):
    ours, theirs = arrays(one), arrays(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert np.array_equal(value, theirs[name]), name


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


def assert_close_weights(one, other, atol):
    """But for biases that the softmax cancels (the keys', ``proj_l``'s): their gradients are rounding, which Adam turns
    into whole steps."""
    ours, theirs = arrays(one), arrays(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        both = value, theirs[name]
        if name.endswith("qkv.bias"):
            both = tuple(np.delete(bias.reshape(3, -1), 1, axis=0) for bias in both)
        if not name.endswith(("attn.k.bias", "proj_l.bias")):
            np.testing.assert_allclose(*both, atol=atol, rtol=0, err_msg=name)


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


def command(start, photos, folder, *flags):
    tiny, weights = start
    words = ["finetune", "--model", tiny.name, "--weights", weights, "--preset-file", weights.parent / "presets.yaml",
             "--data-dir", photos, "--output-dir", folder, "--epochs", "3", "--lr", "1e-3", "-j", "0",
             "--device", "cpu", "--drop-path", "0.2", "--checkpoint-updates", "2", *flags]  # fmt: skip
    return ["-m", "paddle_cait", *map(str, words)]


def run_command(words, tmp_path, launch=False):
    first = ["-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", "2",
             "--log_dir", str(tmp_path / "log")]  # fmt: skip
    script = [str(ROOT / "tools" / "finetune.py"), *words[3:]]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    whole = [sys.executable, *(first + script if launch else words)]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def test_two_processes_are_one(start, photos, tmp_path):
    """The same global batch: the same weights but for the order of sums."""
    flags = ("--drop-path", "0", "--seed", "3")
    run_command(command(start, photos, tmp_path / "one", *flags, "-b", "6"), tmp_path)
    run_command(command(start, photos, tmp_path / "two", *flags, "-b", "3"), tmp_path, launch=True)
    assert_close_weights(tmp_path / "one" / "last.pdparams", tmp_path / "two" / "last.pdparams", 1e-5)
    rows = [log_rows(tmp_path / name) for name in ("one", "two")]
    for one, two in zip(*rows):
        assert one["val_n"] == two["val_n"] == "12" and one["val_top1_correct"] == two["val_top1_correct"]


@pytest.mark.slow
def test_kill_nine_at_ten_moments(start, photos, tmp_path):
    words = command(start, photos, tmp_path / "cut", "-b", "5")
    run_command(command(start, photos, tmp_path / "whole", "-b", "5"), tmp_path)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    rng, killed = np.random.RandomState(0), 0
    while killed < 10:
        resume = ["--resume"] if (tmp_path / "cut" / "last.state.safetensors").exists() else []
        process = subprocess.Popen(
            [sys.executable, *words, *resume], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env
        )
        time.sleep(rng.uniform(2.0, 6.0))
        if process.poll() is not None:
            assert process.returncode == 0
            (tmp_path / "cut").rename(tmp_path / f"done{killed}")  # it was faster than the kill: begin anew
            continue
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    resume = ["--resume"] if (tmp_path / "cut" / "last.state.safetensors").exists() else []
    run_command([*words, *resume], tmp_path)
    assert_same_weights(tmp_path / "whole" / "last.pdparams", tmp_path / "cut" / "last.pdparams")
    for done in tmp_path.glob("done*"):
        assert_same_weights(tmp_path / "whole" / "last.pdparams", done / "last.pdparams")


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
    with pytest.raises(PaddleCaitError, match="nothing to resume"):
        train(start, photos, tmp_path / "other", resume=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: _line(root, 3, "blue/03.png 5"), r"train_list\.txt:4: the label 5 does not fit 3 classes"),
        (lambda root: _line(root, 3, "blue/99.png 0"), r"train_list\.txt:4: no file .*blue/99\.png"),
        (lambda root: _line(root, 3, "blue/03.png"), r"train_list\.txt:4: .*expected"),
        (lambda root: (root / "val_list.txt").unlink(), r"there is no val_list\.txt beside"),
        (lambda root: (root / "labels.txt").write_text("a\na\nb\n"), r"labels\.txt: the name 'a' stands twice"),
        (lambda root: (root / "blue" / "03.png").write_bytes(b"\x89PNG broken"), r"blue/03\.png"),
    ],
)
def test_bad_data_is_one_clear_line(spoil, message, start, photos, tmp_path):
    spoil(photos)
    with pytest.raises(DataError, match=message):
        train(start, photos, tmp_path / "out")


def _line(root, number, text):
    lines = (root / "train_list.txt").read_text().splitlines()
    lines[number] = text
    (root / "train_list.txt").write_text("\n".join(lines) + "\n")


def test_too_few_images_for_a_batch(start, photos, tmp_path):
    with pytest.raises(ConfigError, match="30 training images do not fill one update of 64"):
        train(start, photos, tmp_path / "out", recipe(batch_size=64))


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


@pytest.fixture(autouse=True)
def _quiet():
    paddle.seed(0)
