"""``predict`` as people type it: tables, spreadsheets, JSON, and one line for a mistake."""

import csv
import io
import json
import subprocess
import sys

import pytest
from helpers import ROOT
from make_export import export_by_hand
from PIL import Image

import paddle_cait as pc
from paddle_cait.cli.main import main
from paddle_cait.data.sources import open_source

CHECKPOINT = ROOT / "pretrained" / "demo_cait_digits.pth"
DIGITS = ROOT / "pretrained" / "demo_digits" / "digits.tar"
RUN = ["--engine", "paddle", "--threads", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(exported folder, folder of six digits, their labels)."""
    root = tmp_path_factory.mktemp("made")
    (root / "out").mkdir()
    (root / "out" / "labels.txt").write_text("".join(f"digit {k}\n" for k in range(10)))
    export_by_hand(root / "out", pc.get_preset("demo_cait_digits"), CHECKPOINT, labels="labels.txt")
    source = open_source(DIGITS, DIGITS.with_name("val_list.txt"))
    (root / "photos" / "more").mkdir(parents=True)
    for i in range(6):
        (root / "photos" / ("more" if i > 3 else ".") / f"{i}.png").write_bytes(source.read(i))
    return root / "out", root / "photos", source.labels[:6]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def predict(capsys, *words):
    code = main(["predict", *map(str, words)])
    return code, capsys.readouterr()


def test_a_table(made, capsys):
    out, photos, labels = made
    code, found = predict(capsys, out, photos / "0.png", photos / "more", *RUN, "--topk", 2)
    assert code == 0
    lines = found.out.splitlines()
    assert len(lines) == 9 and lines[0] == str(photos / "0.png") and lines[3] == str(photos / "more" / "4.png")
    assert lines[1].split("%")[1].split() == [str(labels[0]), "digit", str(labels[0])]
    header = found.err.splitlines()[0]
    assert header.startswith("demo_cait_digits.digits: paddle ") and "fp32, 1 thread on cpu, oneDNN off" in header


def test_csv_and_json_say_the_same(made, capsys, tmp_path):
    out, photos, labels = made
    code, found = predict(capsys, out, photos, *RUN, "--format", "csv", "--json", "p.json", "-b", 4)
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(found.out)))
    plain = json.loads((tmp_path / "p.json").read_text())
    assert [int(row["label1"]) for row in rows] == labels and all(row["error"] == "" for row in rows)
    for row, told in zip(rows, plain["predictions"]):
        assert row["path"] == told["path"] and row["name5"] == told["names"][4]
        assert float(row["probability1"]) == pytest.approx(told["probabilities"][0], abs=1e-6)
    assert plain["runtime"]["engine"] == "paddle" and plain["runtime"]["artifact"] == "paddle"
    assert plain["versions"]["paddle_cait"] == pc.__version__ and plain["exif"] is False


def test_output_goes_to_a_file_whole_or_not_at_all(made, capsys, tmp_path):
    out, photos, _ = made
    code, found = predict(capsys, out, photos, *RUN, "--output", "found.json")
    assert code == 0 and found.out == "" and len(json.loads((tmp_path / "found.json").read_text())["predictions"]) == 6
    code, found = predict(capsys, out, photos, *RUN, "--output", "found.txt")
    assert code == 2 and "give --format, one of table, json, csv" in found.err
    code, found = predict(capsys, out, photos, *RUN, "--output", "found.txt", "--format", "table")
    assert code == 0 and (tmp_path / "found.txt").read_text().count("%") == 30


def test_unreadable_images(made, capsys, tmp_path):
    out, photos, _ = made
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    code, found = predict(capsys, out, "broken.jpg", photos / "0.png", *RUN)
    assert code == 2 and found.out == "" and "error: broken.jpg: not an image" in found.err
    code, found = predict(capsys, out, "broken.jpg", photos / "0.png", *RUN, "--on-error", "skip", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(found.out)))
    assert code == 0 and "not an image" in rows[0]["error"] and rows[0]["label1"] == "" and rows[1]["label1"] != ""
    assert "skipped: broken.jpg: not an image" in found.err
    code, found = predict(capsys, out, "broken.jpg", *RUN, "--on-error", "skip")
    assert code == 2 and "none of the 1 images could be read" in found.err


def test_a_checkpoint_with_names_of_ones_own(made, capsys, tmp_path):
    _, photos, labels = made
    (tmp_path / "names.txt").write_text("".join(f"{k} n{k}\n" for k in range(10)))
    words = ["--model", "demo_cait_digits", "--class-names", "names.txt", "--topk", 1, "--format", "csv"]
    code, found = predict(capsys, CHECKPOINT, photos, *words)
    assert code == 0 and "dygraph of Paddle" in found.err
    assert [row["name1"] for row in csv.DictReader(io.StringIO(found.out))] == [f"n{k}" for k in labels]


def test_features_of_a_model_without_classes(made, capsys):
    words = [CHECKPOINT, made[1] / "0.png", "--model", "demo_cait_digits", "--num-classes", 0]
    code, found = predict(capsys, *words, "--format", "json")
    row = json.loads(found.out)["predictions"][0]
    assert code == 0 and len(row["features"]) > 9 and "labels" not in row
    code, found = predict(capsys, *words, "--format", "csv")
    (line,) = csv.DictReader(io.StringIO(found.out))
    assert float(line["f0"]) == pytest.approx(row["features"][0])
    assert f"{len(row['features'])} features" in predict(capsys, *words)[1].out


def test_turned_photographs_are_pointed_out(made, capsys, tmp_path, caplog):
    caplog.set_level("INFO", logger="paddle_cait")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(made[1] / "0.png").convert("RGB").save(tmp_path / "turned.png", exif=exif)
    assert predict(capsys, made[0], "turned.png", *RUN)[0] == 0
    assert "1 photograph is marked as turned (turned.png)" in caplog.text and "--exif" in caplog.text
    caplog.clear()
    assert predict(capsys, made[0], "turned.png", *RUN, "--exif")[0] == 0 and not caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none", "PHOTOS"], "none: no such folder or file"),
        (["OUT", "none/*.png"], "none/*.png: matches no file"),
        (["OUT", "PHOTOS", "--artifact", "onnx:int8"], "holds no 'onnx:int8' but paddle"),
        (["OUT", "PHOTOS", "--engine", "dygraph"], "dygraph runs the checkpoint, not an export"),
        (["OUT", "PHOTOS", "--engine", "paddle", "--topk", "0"], "topk is 0"),
        (["PHOTOS", "PHOTOS"], "holds no EXPORT.json"),
        ([str(CHECKPOINT), "PHOTOS"], "a checkpoint needs the model's name too"),
        (["OUT", "PHOTOS", "-c", "none.yaml"], "none.yaml: cannot be read"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_2(made, capsys, words, message):
    names = {"OUT": made[0], "PHOTOS": made[1]}
    code, found = predict(capsys, *(names.get(word, word) for word in words))
    errors = [line for line in found.err.splitlines() if line.startswith("paddle-cait ")]
    assert code == 2 and len(errors) == 1 and message in errors[0], found.err
    assert found.out == ""


def test_flags_from_a_file(made, capsys, tmp_path):
    (tmp_path / "run.yaml").write_text("engine: paddle\nthreads: 1\ntopk: 1\nformat: csv\n")
    code, found = predict(capsys, made[0], made[1], "-c", "run.yaml")
    assert code == 0 and found.out.startswith("path,label1,name1,probability1,error\n")


def test_the_tool_runs_from_anywhere():
    tool = str(ROOT / "tools" / "predict.py")
    done = subprocess.run([sys.executable, tool, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: paddle-cait predict" in done.stdout
