"""What a run reports: the log, VisualDL's scalars, the summary and its pictures."""

import io
import json
import sys
import types

import numpy as np
import pytest
from make_run import log_rows, one_line, recipe, train, words
from PIL import Image

from paddle_cait.engine.metrics import Rows
from paddle_cait.training.history import COLUMNS
from paddle_cait.training.summary import write_summary

NAMES = ["猫", "a $5 dog and a $9 one", "plain"]
HISTORY = [{"epoch": 1, "train_loss": 1.5, "val_loss": 1.2, "val_top1": 50.0}]


def rows(labels, found):
    n = len(labels)
    top = np.column_stack([found, *[np.full(n, -1)] * 4])
    return Rows(np.arange(n), np.array(labels), top, np.full(n, 0.5), np.full(n, 0.7))


def test_visualdl_is_asked_for_and_absent(start, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "visualdl", None)
    found = one_line(capsys, words(start, photos, tmp_path / "out", "--no-check", "-b", "5", "--visualdl"))
    assert "--visualdl: VisualDL cannot be imported" in found and "pip install visualdl" in found
    assert not (tmp_path / "out" / "log.csv").exists()


def test_visualdl_gets_what_the_log_says(start, photos, tmp_path, monkeypatch):
    points, closed = [], []

    class LogWriter:
        def __init__(self, logdir):
            points.append(logdir)

        def add_scalar(self, tag, value, step):
            points.append((tag, value, step))

        def close(self):
            closed.append(True)

    monkeypatch.setitem(sys.modules, "visualdl", types.SimpleNamespace(LogWriter=LogWriter))
    result = train(start, photos, tmp_path / "out", recipe(epochs=2), check=False, visualdl=True)
    assert points.pop(0) == str(tmp_path / "out" / "visualdl") and closed == [True]
    assert points == [(key, float(row[key]), row["epoch"]) for row in result.history for key in COLUMNS[2:]]
    logged = {(key, int(row["epoch"])): float(row[key]) for row in log_rows(tmp_path / "out") for key in COLUMNS[2:]}
    assert logged == {(tag, step): pytest.approx(value, rel=1e-5) for tag, value, step in points}


def test_a_summary_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    bad = {"/photos/b.png": "b", "/photos/\udcff.png": "a name that is no UTF-8"}
    lines = write_summary(tmp_path, NAMES, rows([0, 0, 1, 2], [0, 1, 1, 2]), HISTORY, {"unreadable": bad})
    assert lines == [
        "worst classes:",
        "  猫: 1 of 2 right, most often taken for a $5 dog and a $9 one",
        "2 images could not be read and were left out, the first is /photos/b.png",
        "wrote summary.json, confusion.csv",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion.csv", "summary.json"]
    assert (tmp_path / "confusion.csv").read_text(encoding="utf-8").splitlines()[1] == "猫,1,1,0"
    about = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert about["unreadable"] == bad and about["classes"][0]["name"] == "猫"


def test_a_summary_with_matplotlib(tmp_path):
    """Names that its font lacks and dollar signs, which it takes for formulas, break nothing."""
    pytest.importorskip("matplotlib")
    lines = write_summary(tmp_path, NAMES, rows([0, 1, 2], [0, 1, 2]), HISTORY, {})
    assert lines == ["no mistakes", "wrote summary.json, confusion.csv, curves.png, confusion.png"]
    for name in ("curves.png", "confusion.png"):
        pixels = np.asarray(Image.open(io.BytesIO((tmp_path / name).read_bytes())).convert("L"))
        assert pixels.shape[0] > 200 and pixels.std() > 5
