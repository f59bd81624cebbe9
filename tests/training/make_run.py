"""What the tests of runs share: small photographs, a shrunk model, and its runs in this process and in others."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, draw_state, npz, official_shapes, preset
from PIL import Image

from paddle_cait.cli.main import main
from paddle_cait.training.finetune import finetune
from paddle_cait.training.mixup import Mixup
from paddle_cait.training.recipe import Recipe
from paddle_cait.weights.readers import open_checkpoint

CLASSES = ("blue", "green", "red")
TRAIN, VAL = 10, 4  # images of each class
_LOGGED = re.compile(r"note: |\[[0-9-]+ [0-9:,]+\]")  # the second is Paddle's, whoever imports it first
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def draw_photos(root, train=TRAIN, val=VAL):
    """Three classes of noise, each of another colour."""
    rng = np.random.RandomState(0)
    lines = {"train": [], "val": []}
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(train + val):
            pixels = rng.randint(0, 120, (40, 44, 3))
            pixels[:, :, 2 - label] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i:02d}.png")
            lines["train" if i < train else "val"].append(f"{name}/{i:02d}.png {label}\n")
    for part, rows in lines.items():
        (root / f"{part}_list.txt").write_text("".join(rows))
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return root


@pytest.fixture
def photos(tmp_path):
    return draw_photos(tmp_path / "photos")


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


def words(start, photos, folder, *flags):
    """The command line of a run; ``flags`` win."""
    tiny, weights = start
    given = ["finetune", "--model", tiny.name, "--weights", weights, "--preset-file", weights.parent / "presets.yaml",
             "--data-dir", photos, "--output-dir", folder, "--epochs", "3", "--lr", "1e-3", "-j", "0",
             "--device", "cpu", "--drop-path", "0.2", "--checkpoint-updates", "2", *flags]  # fmt: skip
    return list(map(str, given))


def one_line(capsys, given):
    """The command fails as bad input does: status 2, one line of error, no traceback. Returns the line."""
    capsys.readouterr()
    assert main(given) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not _LOGGED.match(line)]
    assert len(errors) == 1 and errors[0].startswith("paddle-cait finetune: error: "), errors
    return errors[0]


def in_processes(given, logs, number=1, script=ROOT / "tools" / "finetune.py"):
    """What starts the command in so many processes, as its ``argv``."""
    if number == 1:
        return [sys.executable, str(script), *given[1:]]
    launch = ["-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", str(number), "--log_dir", logs]
    return [sys.executable, *map(str, launch), str(script), *given[1:]]


def run_command(given, tmp_path, number=1):
    argv = in_processes(given, tmp_path / "log", number)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=ENV)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


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


def assert_same_run(one, other):
    """Weights, state and log of two folders, but for the times."""
    for name in ("best.pdparams", "last.pdparams", "last.state.safetensors"):
        assert_same_weights(one / name, other / name)
    timed = ("seconds", "images_per_second", "data_seconds")
    ours, theirs = ([{k: v for k, v in row.items() if k not in timed} for row in log_rows(x)] for x in (one, other))
    assert ours == theirs
