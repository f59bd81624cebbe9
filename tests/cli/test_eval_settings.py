"""What `eval` compares with: the number of the protocol, the images and the preprocessing at hand, and no other."""

import json

import numpy as np
import pytest
from google_npz import draw_google, google_shapes
from helpers import draw_state, npz, official_shapes, preset
from PIL import Image

import paddle_cait as pc
from paddle_cait.cli.main import main
from paddle_cait.presets import config_dir, read_preset_file

CLASSES, VAL = 7, 14


def photographs(folder, count, seed):
    """Noise of one mean colour a class, in a list file."""
    rng = np.random.RandomState(seed)
    folder.mkdir()
    lines = []
    for i in range(count):
        colour = np.random.RandomState(i % CLASSES).randint(40, 216, 3)
        pixels = np.clip(colour + rng.randint(-30, 30, (60, 70, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append(f"{i}.png {i % CLASSES}")
    (folder / "val_list.txt").write_text("\n".join(lines))
    return folder


def run(capsys, *words):
    code = main(["eval", "-j", "0", *map(str, words)])
    return code, capsys.readouterr()


@pytest.fixture
def vit(tmp_path):
    """A ViT with Google's setting, timm's, and a number under each; and its file."""
    tiny = preset(tmp_path, family="vit")
    path = tmp_path / "presets.yaml"
    text = path.read_text().replace("preprocess: {img_size: 48}", "preprocess: {img_size: 48}\n    PRE")
    text = text.replace("PRE", "preprocess_timm: {crop_pct: 0.9, interpolation: bilinear}")
    google = "{top1: 40.0, n: 14, source: google, arch: {act: gelu_tanh}}"
    numbers = f"n: 14, source: timm, preprocess: timm}}\n        also_published: [{google}]"
    text = text.replace("n: 12, source: nobody}", numbers)
    path.write_text(text)
    weights = npz(tmp_path / "tiny.npz", draw_state(official_shapes(tiny)))
    return ["--preset-file", path, "--weights", weights, "--output-dir", tmp_path / "out", "--model", "tiny"]


def test_each_setting_is_judged_by_its_own_number(vit, tmp_path, capsys):
    data = photographs(tmp_path / "val", VAL, 0)
    found = {}
    for setting in (None, "official", "timm"):
        words = ["--preprocess", setting] if setting else []
        code, out = run(capsys, *vit, "--data", data, *words, "--json", tmp_path / "r.json")
        found[setting] = json.loads((tmp_path / "r.json").read_text())
        assert code == 1 and found[setting]["verdict"]["status"] == "FAIL", out.err
    assert found["official"]["published"]["top1"] == 40.0 and found["official"]["preprocess"]["crop_pct"] == 1.0
    assert found["timm"]["published"]["top1"] == 50.0 and found["timm"]["preprocess"]["crop_pct"] == 0.9
    assert found[None]["preprocess"] == found["timm"]["preprocess"]  # where the published number was measured
    losses = {}
    for act in ("gelu", "gelu_tanh"):  # Google's number is met by a model that computes as Google's code does
        model = pc.create_model("tiny", vit[3], preset_file=vit[1], act=act)
        losses[act] = pc.evaluate(model, data, workers=0).loss
    assert found["official"]["loss"] == losses["gelu_tanh"] != losses["gelu"]
    code, out = run(capsys, *vit, "--data", data, "--interpolation", "nearest")
    assert code == 0 and "NOT COMPARABLE: interpolation is nearest, the published number used bilinear" in out.out


@pytest.fixture
def dino(tmp_path):
    tiny = preset(tmp_path, family="dino")
    path = tmp_path / "presets.yaml"
    number = f"{{top1: 50.0, n: {VAL}, protocol: knn, source: nobody}}"
    linear = number.replace("knn", "linear")
    text = path.read_text()
    start = text.index("{top1: 50.0")
    path.write_text(text[:start] + f"{number}\n        also_published: [{linear}]\n")
    weights = npz(tmp_path / "tiny.npz", draw_state(official_shapes(tiny)))
    return ["--preset-file", path, "--weights", weights, "--output-dir", tmp_path / "out", "--model", "tiny"]


def test_a_backbone_needs_a_protocol(dino, tmp_path, capsys):
    data = photographs(tmp_path / "val", VAL, 0)
    code, out = run(capsys, *dino, "--data", data)
    assert code == 2 and "tiny.drawn has no classifier: give --protocol knn" in out.err
    code, out = run(capsys, *dino, "--data", data, "--protocol", "linear")
    assert code == 2 and "--protocol linear needs --linear-weights" in out.err
    code, out = run(capsys, *dino, "--data", data, "--protocol", "knn", "--num-classes", 7)
    assert code == 2 and "--num-classes belongs to a classifier" in out.err


def test_neighbours(dino, tmp_path, capsys):
    data, train = photographs(tmp_path / "val", VAL, 0), photographs(tmp_path / "train", 70, 1)
    words = [*dino, "--data", data, "--protocol", "knn", "--train-data", train, "--nb-knn", 3, 5]
    code, out = run(capsys, *words, "--json", tmp_path / "r.json", "--predictions", tmp_path / "p.csv")
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["n"] == VAL and [row["k"] for row in result["knn"]] == [3, 5]
    assert result["top1_correct"] > VAL / 2  # one colour a class is easy even for drawn weights
    assert result["published"]["protocol"] == "knn" and out.out.splitlines()[-1].startswith(result["verdict"]["status"])
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 1 + VAL
    code, again = run(capsys, *words)
    assert "features of 70 images found" in again.err.replace("train", "features") or code in (0, 1)
    top1 = [line for line in out.out.splitlines() if line.startswith("  k = ")]
    assert top1 == [line for line in again.out.splitlines() if line.startswith("  k = ")]


def test_a_linear_classifier(dino, tmp_path, capsys):
    data = photographs(tmp_path / "val", VAL, 0)
    rng = np.random.RandomState(3)
    head = {"weight": rng.randn(CLASSES, 80).astype("float32"), "bias": np.zeros(CLASSES, "float32")}
    words = [*dino, "--data", data, "--protocol", "linear", "--linear-weights", npz(tmp_path / "head.npz", head)]
    code, out = run(capsys, *words, "--json", tmp_path / "r.json")
    result = json.loads((tmp_path / "r.json").read_text())
    assert code == 1 and result["published"]["protocol"] == "linear" and result["n"] == VAL
    assert result["verdict"]["status"] == "FAIL", out.err


def test_a_file_of_other_weights_is_told_by_its_name(tmp_path, capsys):
    """timm's AugReg file has the shapes of the original one: only its name, hash or config.json tells."""
    chosen = pc.get_preset("vit_tiny_patch16_224")
    arrays = draw_google(google_shapes(chosen.arch))
    named = tmp_path / pc.get_preset("vit_base_patch16_224.augreg_in21k_ft_in1k").checkpoint.filename
    npz(named, arrays)
    (tmp_path / "config.json").write_text("{}")
    report = pc.create_model(chosen, named).load_report
    assert "is that of vit_base_patch16_224.augreg_in21k_ft_in1k, not of vit_tiny_patch16_224" in report.notes[0]
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"tag": "augreg_in21k"}})
    )
    hub = npz(tmp_path / "model.npz", arrays)
    report = pc.create_model(chosen, hub).load_report
    assert "the config.json beside it says vit_tiny_patch16_224.augreg_in21k, not of" in report.notes[0]
    data = photographs(tmp_path / "val", 3, 0)
    words = ["--model", chosen.full_name, "--weights", named, "--data", data, "--output-dir", tmp_path / "out"]
    code, out = run(capsys, *words, "--class-subset", "all")
    assert code == 0 and "the published numbers are not its" in out.out.splitlines()[-1]


def test_a_suite_goes_on_after_a_file_that_does_not_fit(tmp_path, capsys):
    tiny = preset(tmp_path)
    path = tmp_path / "presets.yaml"
    path.write_text(
        path.read_text() + "      other:\n        arch: {depth: 2}\n        checkpoint: {filename: drawn.pth}\n"
    )
    assert len(read_preset_file(path)) == 2
    npz(tmp_path / "drawn.npz", draw_state(official_shapes(tiny))).rename(tmp_path / "drawn.pth")
    data = photographs(tmp_path / "val", VAL, 0)
    words = ["--suite", "presets", "--preset-file", path, "--weights-dir", tmp_path, "--data", data]
    code, out = run(capsys, *words, "--output-dir", tmp_path / "out")
    assert code == 2 and "tiny.other: error:" in out.err and "does not fit tiny.other" in out.err
    rows = json.loads((tmp_path / "out" / "suite-presets.json").read_text())
    assert [row["verdict"]["status"] for row in rows] == ["NOT COMPARABLE", "DOES NOT FIT"]


@pytest.mark.parametrize("path", sorted((config_dir() / "eval").glob("*.yaml")), ids=lambda p: p.name)
def test_every_config_is_made_of_flags_of_eval(path, capsys):
    """And its first comment is the command that uses it; here without the data it asks for."""
    assert path.read_text().startswith(f"# python tools/eval.py -c configs/eval/{path.name} ")
    code, out = run(capsys, "-c", path)
    assert code == 2 and "--data is missing" in out.err


def test_evaluate_takes_the_same_from_python(vit, tmp_path):
    data = photographs(tmp_path / "val", VAL, 0)
    model = pc.create_model("tiny", vit[3], preset_file=vit[1])
    official, timm = (pc.evaluate(model, data, preprocess=setting, workers=0) for setting in ("official", "timm"))
    assert (official.preprocess.crop_pct, timm.preprocess.crop_pct) == (1.0, 0.9)
    several = tmp_path / "several.txt"
    several.write_text("".join(f"{i}.png {i % CLASSES},{(i + 1) % CLASSES}\n" for i in range(VAL)))
    either = pc.evaluate(model, data, list_file=several, workers=0)
    assert either.n == VAL
    best = official.rows.top[:, 0]
    right = (best == np.arange(VAL) % CLASSES) | (best == (np.arange(VAL) + 1) % CLASSES)
    assert either.top1_correct == int(right.sum())
    with pytest.raises(pc.PaddleCaitError, match="preprocess is 'torch', expected official or timm"):
        pc.evaluate(model, data, preprocess="torch")
    with pytest.raises(pc.PaddleCaitError, match="belong to a path"):
        pc.evaluate(model, [], list_file=several)
