"""A fine-tuned checkpoint is exported, evaluated and used by its path alone, with the user's own class names."""

import csv
import json

import paddle
import pytest
from helpers import ROOT, draw_state, npz, official_shapes, preset, unpack

import paddle_cait as pc
from paddle_cait.cli.main import main
from paddle_cait.data.sources import open_source
from paddle_cait.deploy import exporter
from paddle_cait.deploy.manifest import read_manifest
from paddle_cait.weights.store import store_arrays

DIGITS = ROOT / "pretrained" / "demo_digits" / "digits.tar"
DEMO = ROOT / "pretrained" / "demo_cait_digits.pth"
NAMES = ["Gänseblümchen", "rose", "东北虎"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporter, "judge_one_dnn", lambda *_: (None, "not tried"))  # it takes a process of its own


def keep(path, model, names):
    """As fine-tuning keeps its weights."""
    about = {
        "model": model.preset.full_name,
        "num_classes": len(names),
        "img_size": list(model.img_size),
        "class_names": names,
    }
    store_arrays(path, {name: value.numpy() for name, value in model.state_dict().items()}, about)
    return path


def drawn(folder, names, family="cait", **options):
    """A shrunk model of one's own (presets.yaml) with drawn weights, a new classifier and what stands beside it."""
    tiny = preset(folder, family=family)
    weights = npz(folder / "drawn.npz", draw_state(official_shapes(tiny)))
    paddle.seed(0)
    return keep(folder / "best.pdparams", pc.create_model(tiny, weights, num_classes=len(names), **options), names)


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    """The bundled model with a classifier of the digits 0, 1 and 2, under other names."""
    model = pc.create_model("demo_cait_digits", DEMO)
    three = pc.create_model("demo_cait_digits", DEMO, num_classes=3)
    three.head.weight.set_value(model.head.weight[:, :3])
    three.head.bias.set_value(model.head.bias[:3])
    return keep(tmp_path_factory.mktemp("run") / "best.pdparams", three, NAMES)


@pytest.fixture(scope="module")
def val_list(tmp_path_factory):
    """The bundled digits 0, 1 and 2."""
    lines = DIGITS.with_name("val_list.txt").read_text().splitlines()
    path = tmp_path_factory.mktemp("list") / "val_list.txt"
    path.write_text("".join(f"{line}\n" for line in lines if int(line.split()[1]) < 3))
    return path


@pytest.fixture
def photo(val_list, tmp_path):
    """A digit, and its label."""
    source = open_source(DIGITS, val_list)
    (tmp_path / "photo.png").write_bytes(source.read(5))
    return tmp_path / "photo.png", source.labels[5]


def run(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr()


def verbs(weights, photo):
    """The three commands by a checkpoint's path alone."""
    return [
        ["export", "--weights", weights],
        ["predict", weights, photo],
        ["eval", "--weights", weights, "--data", DIGITS],
    ]


def predict(capsys, *words):
    code, out = run(capsys, "predict", *words, "--topk", 1, "--format", "csv", "--threads", 1)
    return code, next(csv.DictReader(out.out.splitlines()), None), out.err


def evaluated(capsys, *words):
    code, out = run(capsys, "eval", *words, "-j", 0, "--device", "cpu", "--json", "r.json")
    assert code == 0, out.err
    with open("r.json", encoding="utf-8") as file:
        return json.load(file), out


def test_the_file_is_all_that_export_needs(best, photo, val_list, tmp_path, capsys):
    code, out = run(capsys, "export", "--weights", best, "--formats", "paddle", "--output-dir", "out")
    assert code == 0, out.err
    made = read_manifest(tmp_path / "out")
    assert (made.model, made.num_classes, made.img_size) == ("demo_cait_digits.digits", 3, (32, 32))
    assert (tmp_path / "out" / made.labels).read_text(encoding="utf-8").splitlines() == NAMES
    assert all(name in (tmp_path / "out" / "inference.yml").read_text(encoding="utf-8") for name in NAMES)
    path, label = photo
    code, row, _ = predict(capsys, "out", path, "--engine", "paddle")
    assert code == 0 and (row["label1"], row["name1"]) == (str(label), NAMES[label])
    result, _ = evaluated(capsys, "--weights", "out", "--data", DIGITS, "--list", val_list, "--engine", "paddle")
    assert result["verdict"]["status"] == "NOT COMPARABLE" and result["top1_correct"] == 106


def test_the_file_is_all_that_predict_needs(best, photo, tmp_path, capsys):
    path, label = photo
    code, row, said = predict(capsys, best, path)
    assert code == 0 and (row["label1"], row["name1"]) == (str(label), NAMES[label])
    assert "demo_cait_digits.digits: dygraph" in said
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    assert predict(capsys, best, path, "--class-names", "names.txt")[1]["name1"] == "abc"[label]
    code, out = run(capsys, "predict", best, path, "--num-classes", 0, "--format", "json")
    assert code == 0 and len(json.loads(out.out)["predictions"][0]["features"]) > 9


def test_the_file_is_all_that_eval_needs(best, val_list, capsys, caplog):
    caplog.set_level("INFO", logger="paddle_cait")
    result, out = evaluated(capsys, "--weights", best, "--data", DIGITS, "--list", val_list)
    assert (result["n"], result["top1_correct"], result["published"]) == (107, 106, None)
    assert out.out.splitlines()[-1] == "NOT COMPARABLE: no accuracy was published for these weights"
    assert "best.pdparams.json says: model demo_cait_digits.digits, num_classes 3, img_size 32" in caplog.text


def test_another_number_of_classes_is_one_line(best, photo, capsys):
    for words in verbs(best, photo[0]):
        code, out = run(capsys, *words, "--num-classes", 5)
        errors = [line for line in out.err.splitlines() if line.startswith("paddle-cait ")]
        assert code == 2 and len(errors) == 1
        assert "best.pdparams.json: the weights are of 3 classes, not of 5: leave the number" in errors[0]


def test_a_description_of_other_weights_says_nothing(best, photo, tmp_path, capsys, caplog):
    """What the flags do not say is missing again."""
    other = keep(tmp_path / "best.pdparams", pc.create_model("demo_cait_digits", best, num_classes=3), NAMES)
    other.write_bytes(DEMO.read_bytes())
    missing = ("--model is missing", "a checkpoint needs the model's name too", "give --model NAME")
    for words, message in zip(verbs(other, photo[0]), missing):
        caplog.clear()
        code, out = run(capsys, *words)
        assert code == 2 and message in out.err
        assert sum("describes other weights" in record.message for record in caplog.records) == 1
    result, _ = evaluated(capsys, "--model", "demo_cait_digits", "--weights", other, "--data", DIGITS)
    assert result["verdict"]["status"] == "PASS"


def test_a_model_of_ones_own_at_a_size_of_its_own(photo, val_list, tmp_path, capsys):
    mine = drawn(tmp_path, NAMES, img_size=64)
    for words in verbs(mine, photo[0]):
        code, out = run(capsys, *words)
        assert code == 2 and "is tiny.drawn, which is no packaged preset, so give the --preset-file" in out.err
    presets = ["--preset-file", "presets.yaml"]
    code, out = run(capsys, "export", "--weights", mine, *presets, "--formats", "paddle", "--output-dir", "out")
    assert code == 0 and read_manifest("out").img_size == (64, 64), out.err
    words = ["--weights", mine, *presets, "--data", DIGITS, "--list", val_list, "--limit", 8]
    for given, size in (([], 64), (["--img-size", 32], 32)):  # what is given wins
        assert evaluated(capsys, *words, *given)[0]["preprocess"]["img_size"] == size
    found = [predict(capsys, *source, photo[0], *presets) for source in ([mine], ["out", "--engine", "paddle"])]
    assert [code for code, _, _ in found] == [0, 0] and found[0][1]["name1"] == found[1][1]["name1"]
    assert "CenterCrop(64)" in found[0][2]
    assert "CenterCrop(32)" in predict(capsys, mine, photo[0], *presets, "--img-size", 32)[2]


def test_a_rectangle_is_exported_and_not_evaluated(tmp_path, capsys):
    mine = drawn(tmp_path, NAMES, img_size=(32, 64))
    words = ["--weights", mine, "--preset-file", "presets.yaml"]
    code, out = run(capsys, "export", *words, "--formats", "paddle", "--output-dir", "out")
    assert code == 0 and read_manifest("out").img_size == (32, 64), out.err
    code, out = run(capsys, "eval", *words, "--data", DIGITS)
    assert code == 2 and "best.pdparams: takes 32x64 pixels; images are prepared as squares only" in out.err


def test_it_is_evaluated_as_it_was_while_it_was_trained(val_list, tmp_path, capsys):
    """Not by the setting of a number that belongs to other weights."""
    mine = drawn(tmp_path, NAMES, family="vit")
    path = tmp_path / "presets.yaml"
    timm = "preprocess: {img_size: 48}\n    preprocess_timm: {crop_pct: 0.9, interpolation: bilinear}"
    text = path.read_text().replace("preprocess: {img_size: 48}", timm)
    path.write_text(text.replace("source: nobody}", "source: timm, preprocess: timm}"))
    words = ["--weights", mine, "--preset-file", path, "--data", DIGITS, "--list", val_list, "--limit", 8]
    result, _ = evaluated(capsys, *words)
    assert (result["preprocess"]["crop_pct"], result["preprocess"]["interpolation"]) == (1.0, "bicubic")
    result, _ = evaluated(capsys, *words, "--preprocess", "timm")
    assert result["preprocess"]["crop_pct"] == 0.9


def test_as_many_classes_as_the_preset_are_still_ones_own(tmp_path, capsys):
    """No number is published for them, neither as a checkpoint nor as an export."""
    model = pc.create_model("demo_cait_digits", DEMO)
    mine = keep(tmp_path / "best.pdparams", model, [f"flower {k}" for k in range(10)])
    result, _ = evaluated(capsys, "--weights", mine, "--data", DIGITS)
    assert result["verdict"]["reason"] == "no accuracy was published for these weights"
    assert run(capsys, "export", "--weights", mine, "--formats", "paddle", "--output-dir", "out")[0] == 0
    result, _ = evaluated(capsys, "--weights", "out", "--data", DIGITS)
    reason = "the weights were fine-tuned: the published numbers are not theirs"
    assert result["verdict"] == {"status": "NOT COMPARABLE", "reason": reason, "difference": None}


def test_neighbours_of_a_fine_tuned_backbone(best, val_list, tmp_path, capsys):
    words = ["--weights", best, "--data", DIGITS, "--list", val_list, "--protocol", "knn", "--nb-knn", 3]
    (tmp_path / "train.txt").write_text("".join(val_list.read_text().splitlines(True)[:80]))
    result, _ = evaluated(capsys, *words, "--train-data", DIGITS, "--train-list", "train.txt")
    assert result["n"] == 107 and result["verdict"]["reason"] == "no accuracy was published for these weights"
    code, out = run(capsys, "eval", *words, "--num-classes", 3)
    assert code == 2 and "--num-classes belongs to a classifier" in out.err


def test_a_list_of_names_is_checked_before_anything_is_exported(best, tmp_path):
    model = pc.create_model("demo_cait_digits", best, num_classes=3)
    for names, message in ((NAMES[:2], "holds 2 names, the model has 3"), (["a", "b\n", "c"], r"'b\\n' is no name")):
        with pytest.raises(pc.DataError, match=message):
            pc.export(model, tmp_path / "other", ["paddle"], class_names=names)


def test_from_photographs_to_predictions(tmp_path, capsys):
    """What `finetune` writes is what the other verbs read."""
    source = open_source(DIGITS, DIGITS.with_name("val_list.txt"))
    lines = {"train": [], "val": []}
    for label, name in enumerate(NAMES):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for k, i in enumerate([i for i, own in enumerate(source.labels) if own == label][:12]):
            (tmp_path / "flowers" / name / f"{k}.png").write_bytes(source.read(i))
            lines["train" if k < 8 else "val"].append(f"{name}/{k}.png {label}\n")
    for part, rows in lines.items():
        (tmp_path / "flowers" / f"{part}_list.txt").write_text("".join(rows), encoding="utf-8")
    (tmp_path / "flowers" / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES), encoding="utf-8")
    words = ["--model", "demo_cait_digits", "--weights", DEMO, "--data-dir", "flowers", "--output-dir", "run"]
    words += ["--epochs", 1, "--warmup-epochs", 0, "-b", 8, "-j", 0, "--device", "cpu", "--no-check"]
    code, out = run(capsys, "finetune", *words, "--json", "f.json")
    assert code == 0, out.err
    best = "run/best.pdparams"
    result, _ = evaluated(capsys, "--weights", best, "--data", "flowers")
    history = json.loads((tmp_path / "f.json").read_text())["history"]
    assert (result["n"], result["top1_correct"]) == (history[0]["val_n"], history[0]["val_top1_correct"])
    assert run(capsys, "export", "--weights", best, "--formats", "paddle", "--output-dir", "out")[0] == 0
    image = f"flowers/{NAMES[0]}/9.png"
    rows = [predict(capsys, *source, image)[1] for source in ([best], ["out", "--engine", "paddle"])]
    assert rows[0]["name1"] == rows[1]["name1"] in NAMES


def test_in_python(best):
    """The new classifier is loaded; asked for, another one is new."""
    model = pc.create_model("demo_cait_digits", best)
    assert model.num_classes == 3 and "head.weight" in model.load_report.loaded
    assert pc.create_model("demo_cait_digits", best, num_classes=2).num_classes == 2


def test_another_size_in_python(tmp_path):
    drawn(tmp_path, NAMES, img_size=80)
    model = pc.create_model("tiny", tmp_path / "best.pdparams", preset_file=tmp_path / "presets.yaml")
    assert tuple(model.img_size) == (80, 80) and model.num_classes == 3


def test_training_goes_on_from_it(best, tmp_path, capsys):
    """Model and size are the checkpoint's, the classes are the new data's."""
    unpack(DIGITS, tmp_path / "data")
    rows = [line.split() for line in DIGITS.with_name("val_list.txt").read_text().splitlines()]
    two = [f"{name} {int(label) - 5}\n" for name, label in rows if label in "56"]
    for part, lines in (("train", two[:8]), ("val", two[8:12])):
        (tmp_path / "data" / f"{part}_list.txt").write_text("".join(lines))
    (tmp_path / "data" / "labels.txt").write_text("five\nsix\n")
    words = ["--weights", best, "--data-dir", "data", "--epochs", "1", "--warmup-epochs", "0", "-b", "4", "-j", "0"]
    assert main(["finetune", *map(str, words), "--no-check", "--output-dir", "on"]) == 0, capsys.readouterr().err
    about = json.loads((tmp_path / "on" / "best.pdparams.json").read_text())
    assert about["model"] == "demo_cait_digits.digits" and about["class_names"] == ["five", "six"]
