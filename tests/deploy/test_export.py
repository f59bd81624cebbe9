"""``export`` with Paddle alone: what is written, that it is verified, and that nothing is left behind otherwise."""

import dataclasses
import hashlib
import importlib.util
import json
import shutil
import socket

import numpy as np
import paddle
import pytest
import yaml
from helpers import draw_state, npz, official_shapes, preset
from PIL import Image

import paddle_cait as pc
from paddle_cait.cli.main import run_verb
from paddle_cait.deploy import exporter, formats, inference_yml, one_dnn, verify, writer
from paddle_cait.deploy.exported import load_exported
from paddle_cait.deploy.exporter import export
from paddle_cait.deploy.isolation import not_importable, run_python, silence
from paddle_cait.deploy.manifest import Check, read_manifest
from paddle_cait.deploy.reference import Reference
from paddle_cait.deploy.samples import Samples, random_photographs, read_samples
from paddle_cait.deploy.sessions import open_session
from paddle_cait.deploy.verify import VerificationError, compare
from paddle_cait.presets import Preprocess

LOGITS = np.random.RandomState(0).standard_normal((16, 7))
OTHERS = [("vit", {}), ("deit", {"distilled": True, "head_dist": True}), ("dinov2", {"num_register_tokens": 4})]


def build(folder, family="cait", **changes):
    """(model with drawn weights, their file, the preset's file)."""
    chosen = preset(folder, family=family, **changes)
    weights = npz(folder / "drawn.npz", draw_state(official_shapes(chosen)))
    return pc.create_model(chosen, weights), weights, folder / "presets.yaml"


@pytest.fixture(scope="module")
def cait(tmp_path_factory):
    return build(tmp_path_factory.mktemp("cait"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve pictures, and a list that labels them."""
    folder = tmp_path_factory.mktemp("photographs")
    pixels = random_photographs(12, (50, 64), Preprocess(48, 1.0, "center", "bicubic", (0.5,) * 3, (0.5,) * 3)).pixels
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    (folder / "list.txt").write_text("".join(f"{i:02}.png {i % 7}\n" for i in range(12)))
    return folder


@pytest.fixture
def no_one_dnn(monkeypatch):
    """Trying oneDNN takes a process of its own; one test does, the others do without."""
    monkeypatch.setattr(exporter, "judge_one_dnn", lambda *_: (None, "not tried"))


@pytest.fixture
def broken(monkeypatch):
    """What is written differs from the model by one weight of the classifier."""

    def write(model, folder, stem="inference"):
        head = model.net.head
        weight = head.weight.numpy()
        weight[0, 0] += 0.5
        head.weight.set_value(weight)
        return real(model, folder, stem)

    real = writer.write_paddle
    monkeypatch.setattr(writer, "write_paddle", write)


@pytest.fixture(scope="module")
def made(cait, photographs, tmp_path_factory):
    """One whole export, with everything that Paddle alone allows: (folder, what it says)."""
    folder = tmp_path_factory.mktemp("made")
    names = folder / "names.txt"
    names.write_text("\n".join("abcdefg") + "\n")
    told = export(
        cait[0],
        folder / "out",
        ["paddle"],
        outputs=("logits", "features", "attention"),
        class_names=names,
        verify_dir=photographs,
        verify_list=photographs / "list.txt",
        verify_images=10,
    )
    return folder / "out", told


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_export_is_whole_and_right(cait, photographs, made):
    model, weights, _ = cait
    out, told = made
    assert read_manifest(out) == told
    assert leftovers(out.parent) == ["names.txt", "out"]
    (artifact,) = told.artifacts
    assert set(leftovers(out)) == {*artifact.files, "EXPORT.json", "labels.txt"}
    assert {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in artifact.files} == artifact.files
    assert artifact.entry == ("inference.pdmodel" if paddle.__version__.startswith("2.") else "inference.json")
    assert told.weights["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (out / told.labels).read_text().split() == list("abcdefg")
    check = artifact.checks[0]
    assert (check.engine, check.images, check.top1_equal, check.batches) == ("paddle", 10, 10, (1, 3, 8))
    assert check.max_difference < 1e-5
    assert told.settings["verified_with"] == f"10 images of {photographs}"

    samples = read_samples(photographs, 10, pc.eval_transform(model), photographs / "list.txt", 7)
    reference = Reference.of(model, samples, told.outputs, "float32")
    right = int((reference.outputs[0].argmax(1) == samples.labels).sum())
    assert check.top1_correct == check.top1_correct_dygraph == right
    found = open_session(out, told, "paddle", device="cpu")(samples.prepared())
    for name, got, wanted in zip(told.outputs, found, reference.outputs):
        np.testing.assert_allclose(got, wanted, atol=1e-5, err_msg=name)
    assert (told.settings["onednn"], len(artifact.checks)) in ((True, 2), (False, 1))  # by speed; it is right here
    assert "wrong" not in told.settings["onednn_note"] and "ends" not in told.settings["onednn_note"]


@pytest.mark.parametrize(("family", "changes"), OTHERS, ids=[family for family, _ in OTHERS])
def test_other_families_take_pixels(family, changes, tmp_path, no_one_dnn):
    model, *_ = build(tmp_path, family, **changes)
    model.train()
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    outputs = ("features",) if family == "dinov2" else ("logits", "features")
    told = export(model, tmp_path / "out", ["paddle"], outputs=outputs, uint8_input=True, verify_images=5)
    assert (told.input_dtype, told.outputs, told.labels) == ("uint8", outputs, None)
    assert told.artifacts[0].checks[0].max_difference < 1e-5
    assert all(layer.training for layer in model.sublayers(include_self=True))
    assert "forward" not in vars(model) and not any("attention" in vars(layer) for layer in model.sublayers())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)


def test_a_wrong_export_leaves_nothing(cait, tmp_path, broken):
    with pytest.raises(
        VerificationError, match=r"^paddle, .*logits differ by .* the limit is 1e-04; nothing was writt"
    ):
        export(cait[0], tmp_path / "out", ["paddle"])
    assert leftovers(tmp_path) == []


def test_a_wrong_export_is_exit_status_1_and_leaves_an_older_one(cait, tmp_path, broken, capsys):
    older = tmp_path / "out"
    older.mkdir()
    (older / "EXPORT.json").write_text("older")
    _, weights, presets = cait
    words = ["--model", "tiny", "--preset-file", presets, "--weights", weights, "--output-dir", older, "--formats"]
    words += ["paddle", "--overwrite", "--verify-images", "3", "--json", tmp_path / "report.json"]
    assert run_verb("export", list(map(str, words))) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 + captured.err.count("note: ") and "FAIL: paddle, " in captured.err
    assert json.loads((tmp_path / "report.json").read_text())["status"] == "FAIL"
    assert leftovers(tmp_path) == ["out", "report.json"]
    assert leftovers(older) == ["EXPORT.json"] and (older / "EXPORT.json").read_text() == "older"


def test_the_verb_replaces_an_older_export_without_a_network(cait, tmp_path, no_one_dnn, monkeypatch, capsys):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    out = tmp_path / "out"
    out.mkdir()
    (out / "EXPORT.json").write_text("older")
    (out / "inference.onnx").write_text("older")
    _, weights, presets = cait
    config = tmp_path / "run.yaml"
    config.write_text(f"model: tiny\npreset_file: {presets}\nformats: [paddle]\noverwrite: true\n")
    words = ["-c", config, "-o", f"weights={weights}", "--output-dir", out, "--json", tmp_path / "report.json"]
    assert run_verb("export", list(map(str, words))) == 0
    assert "tiny.drawn -> " in capsys.readouterr().out
    assert set(leftovers(out)) == {"EXPORT.json", *read_manifest(out).artifacts[0].files}
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["status"] == "PASS" and report["artifacts"][0]["checks"][0]["top1_equal"] == 16


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_export_leaves_nothing(cait, tmp_path, monkeypatch, stop):
    def interrupt(*_):
        raise stop

    monkeypatch.setattr(exporter, "verify", interrupt)
    with pytest.raises(stop):
        export(cait[0], tmp_path / "deep" / "out", ["paddle"])
    assert leftovers(tmp_path / "deep") == []


def test_what_exists_is_refused(cait, tmp_path):
    other = tmp_path / "mine"
    other.mkdir()
    for overwrite in (False, True):
        with pytest.raises(pc.ConfigError, match="exists and is no export"):
            export(cait[0], other, ["paddle"], overwrite=overwrite)
    (other / "EXPORT.json").write_text("{}")
    with pytest.raises(pc.ConfigError, match="give --overwrite"):
        export(cait[0], other, ["paddle"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ["tflite"]}, "unknown format 'tflite', expected some of paddle, onnx"),
        ({"formats": []}, "formats are"),
        ({"outputs": ["attention", "logits"]}, "expected logits or probabilities first"),
        ({"outputs": []}, "outputs are none, expected logits or probabilities first"),
        (
            {"outputs": ["logits", "pooled"]},
            "outputs are logits, pooled, expected logits or probabilities first, then some of logits, features",
        ),
        ({"class_names": "list.txt"}, "holds 12 names, the model has 7 classes"),
        ({"verify_dir": "absent"}, "absent: no such folder"),
        ({"verify_list": "list.txt"}, "needs their folder, --verify-dir"),
        ({"verify_images": 0}, "number of images is 0"),
        ({"verify_dir": ".", "verify_images": 0}, "number of images is 0"),
    ],
)
def test_bad_arguments_get_one_line(cait, photographs, tmp_path, changes, message):
    arguments = {"formats": ["paddle"], **changes}
    for key in ("class_names", "verify_dir", "verify_list"):
        if key in arguments:
            arguments[key] = photographs / arguments[key]
    with pytest.raises(pc.PaddleCaitError, match=message) as error:
        export(cait[0], tmp_path / "out", **arguments)
    assert "\n" not in str(error.value)
    assert leftovers(tmp_path) == []


def test_missing_flags_and_packages(cait, tmp_path, monkeypatch, capsys):
    assert run_verb("export", ["--weights", "w.pth"]) == 2
    assert "--model is missing" in capsys.readouterr().err
    assert run_verb("export", ["--model", "cait_xxs24_224"]) == 2
    assert "--weights is missing" in capsys.readouterr().err
    present = {"paddle2onnx", "onnx"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in present else None)
    for form, wanted, extra in (
        ("onnx:int8", "onnxruntime", "int8"),
        ("openvino", "openvino", "openvino"),
        ("openvino:int8", "openvino", "int8"),
    ):
        assert run_verb("export", ["--model", "cait_xxs24_224", "--weights", "w.pth", "--formats", form]) == 2
        line = capsys.readouterr().err
        assert line.endswith(f"the format {form} needs {wanted}: pip install 'paddle_cait[{extra}]'\n")
    present.clear()
    with pytest.raises(pc.PaddleCaitError, match=r"format onnx needs paddle2onnx: pip install 'paddle_cait\[onnx\]'"):
        formats.parse_formats(["paddle", "onnx"])


def test_without_formats_what_is_installed_is_written(monkeypatch, caplog):
    caplog.set_level("INFO", "paddle_cait")
    present = {"paddle2onnx", "onnx"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in present else None)
    assert [one.name for one in formats.parse_formats(None)] == ["paddle", "onnx"]
    assert "openvino is left out, it needs openvino: pip install 'paddle_cait[openvino]'" in caplog.text
    present.add("openvino")
    assert [one.name for one in formats.parse_formats(None)] == ["paddle", "onnx", "openvino"]
    present.clear()
    assert [one.name for one in formats.parse_formats(None)] == ["paddle"]
    assert "onnx is left out, it needs paddle2onnx, onnx: pip install 'paddle_cait[onnx]'" in caplog.text


def test_what_is_too_large_for_onnx_is_written_for_paddle(cait, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "paddle_cait")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr("paddle_cait.deploy.onnx_format._LARGEST", 1 << 10)
    manifest = export(cait[0], tmp_path / "out")
    assert [artifact.name for artifact in manifest.artifacts] == ["paddle"]
    assert "onnx is left out: the format onnx holds at most 2 GiB" in caplog.text
    with pytest.raises(pc.PaddleCaitError, match="the format onnx holds at most 2 GiB"):
        export(cait[0], tmp_path / "two", ["paddle", "onnx"])


def test_int8_needs_photographs(cait, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(pc.ConfigError, match="onnx:int8 needs --calib-dir: a folder of photographs"):
        export(cait[0], tmp_path / "out", ["onnx:int8"])
    with pytest.raises(pc.DataError, match="absent: no such folder"):
        export(cait[0], tmp_path / "out", ["onnx:int8"], calib_dir=tmp_path / "absent")
    with pytest.raises(pc.DataError, match="no images in this folder"):
        export(cait[0], tmp_path / "out", ["onnx:int8"], calib_dir=tmp_path)


def test_a_runtime_that_is_not_installed_is_said_loudly(cait, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(exporter, "verify", lambda *_: None)
    told = export(cait[0], tmp_path / "out", ["paddle"])
    assert told.settings["not_verified"] == {"paddle": "paddle is not installed"} and told.artifacts[0].checks == ()
    assert [record.levelname for record in caplog.records if "NOT VERIFIED" in record.message] == ["WARNING"]


def test_samples_are_prepared_as_in_evaluation(cait, photographs):
    transform = pc.eval_transform(cait[0])
    samples = read_samples(photographs, 5, transform)
    assert samples.labels is None and samples.pixels.dtype == np.uint8
    for i, name in enumerate(("00", "02", "04", "07", "09")):  # evenly spread over twelve
        with Image.open(photographs / f"{name}.png") as image:
            np.testing.assert_array_equal(samples.prepared(i, i + 1)[0], transform(image))
    random = random_photographs(4, (48, 32), transform.preprocess)
    assert random.pixels.shape == (4, 48, 32, 3) and 80 < random.pixels.mean() < 150 and random.pixels.std() > 40
    np.testing.assert_array_equal(random.pixels, random_photographs(4, (48, 32), transform.preprocess).pixels)


def test_differences_are_relative_and_infinite_where_there_are_none():
    samples = Samples(np.zeros((2, 4, 4, 3), np.uint8), None, "none", np.array([1, 1]))
    reference = Reference(samples, [np.array([[0.0, 100.0], [2.0, 1.0]])], ("logits",), "float32")

    def judge(*rows):
        return compare({size: [np.array(rows)] for size in verify.BATCHES}, reference, "paddle", "fp32")

    check, worst = judge([0.0, 101.0], [2.0, 1.1])
    assert check == Check("paddle", "fp32", 2, (1, 3, 8), pytest.approx(0.05, abs=0.051), 2, 1, 1)
    assert judge([0.0, 100.0], [2.0, 4.0])[0].top1_equal == 1 and judge([0.0, 100.0], [2.0, 4.0])[0].top1_correct == 2
    assert "image 1" in worst
    assert judge([0.0, np.nan], [2.0, 1.0])[0].max_difference == np.inf
    assert not verify.within_limit(dataclasses.replace(check, precision="int8", max_difference=np.inf))
    assert judge([0.0, 100.0, 0.0], [2.0, 1.0, 0.0])[0].max_difference == np.inf


def test_a_model_that_gives_no_numbers_is_refused(tmp_path):
    model, *_ = build(tmp_path, "vit")
    model.norm.bias.set_value(np.full(40, np.nan, np.float32))
    with pytest.raises(pc.PaddleCaitError, match="not finite numbers"):
        export(model, tmp_path / "out", ["paddle"])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "ends the process"),
        ("from numpy import *; savez(sys.argv[3], ratio=1.0, **{f'{b}_0': ones((16, 7)) for b in (1, 3, 8)})", "wrong"),
        ("import shutil; shutil.copyfile(os.environ['ANSWER'], sys.argv[3])", "3.0 times as long"),
    ],
)
def test_one_dnn_is_used_only_where_it_is_right_and_pays(made, tmp_path, monkeypatch, code, said):
    folder = shutil.copytree(made[0], tmp_path / "staged")
    reference = Reference(random_photographs(16, (48, 48), made[1].preprocess), [LOGITS], ("logits",), "float32")
    np.savez(tmp_path / "answer.npz", ratio=3.0, **{f"{b}_0": LOGITS for b in verify.BATCHES})
    monkeypatch.setenv("ANSWER", str(tmp_path / "answer.npz"))
    monkeypatch.setattr(one_dnn, "_TRY", f"import os\n{code}")
    check, why = one_dnn.judge_one_dnn(folder, made[1], made[1].artifacts[0], reference, tmp_path)
    assert check is None and said in why and why.endswith("not used")
    assert not (folder / "EXPORT.json").exists()  # that of the trial


@pytest.mark.parametrize(
    ("changes", "operators", "note"),
    [
        ({}, [{"resize_short": 54, "interpolation": "bicubic", "backend": "pil"}, {"size": 48}], "one pixel off"),
        ({"crop_mode": "squash", "crop_pct": 1.0}, [{"size": [48, 48], "interpolation": "bicubic"}], "logits"),
        ({"interpolation": "hamming"}, [{"interpolation": "hamming"}], "no hamming filter"),
        ({"interpolation": "lanczos"}, [{"interpolation": "lanczos4"}], "PaddleClas lanczos"),
    ],
)
def test_inference_yml_says_what_paddlex_reads(made, changes, operators, note):
    folder, told = made
    assert (folder / "inference.yml").read_text() == inference_yml.inference_yml(told, list("abcdefg"))
    setting = dataclasses.replace(told.preprocess, **{"crop_pct": 0.875, **changes})
    text = inference_yml.inference_yml(dataclasses.replace(told, preprocess=setting), list("abcdefg"))
    assert any(note in line for line in text.splitlines() if line.startswith("#"))
    content = yaml.safe_load(text)
    steps = content["PreProcess"]["transform_ops"]
    assert [next(iter(step)) for step in steps[-2:]] == ["NormalizeImage", "ToCHWImage"]
    for step, wanted in zip(steps, operators):
        assert wanted.items() <= next(iter(step.values())).items()
    assert content["Global"]["model_name"] == "tiny"
    assert content["PostProcess"]["Topk"] == {"topk": 5, "label_list": list("abcdefg")}
    assert content["Hpi"]["backend_configs"]["tensorrt"]["dynamic_shapes"]["x"][2] == [8, 3, 48, 48]


def test_inference_yml_of_other_inputs(made):
    _, told = made
    pixels = inference_yml.inference_yml(dataclasses.replace(told, input_dtype="uint8"), None)
    assert "NormalizeImage:" not in pixels and "PaddleX cannot feed that" in pixels
    tall = inference_yml.inference_yml(dataclasses.replace(told, preprocess=None, img_size=(64, 48)), None)
    assert "The input is 64 x 48" in tall and "ResizeImage" not in tall
    features = yaml.safe_load(inference_yml.inference_yml(dataclasses.replace(told, num_classes=0), None))
    assert features["PostProcess"] == {"NormalizeFeatures": None}


def test_other_packages_are_kept_apart(capfd, monkeypatch, tmp_path):
    with silence():
        print("chatter")
    with pytest.raises(ValueError, match="x"), silence():
        print("what went wrong", flush=True)
        raise ValueError("x")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "what went wrong\n")
    with not_importable("tabnanny"), pytest.raises(ImportError):
        importlib.import_module("tabnanny")
    importlib.import_module("tabnanny")
    (tmp_path / "json.py").write_text("raise SystemExit('the work folder was imported')")
    monkeypatch.chdir(tmp_path)
    done = run_python("import json; print(sys.argv[1])", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_probabilities_in_place_of_logits(cait, made, photographs, tmp_path, no_one_dnn):
    """Serving tools want them; predictions and counts stay what they are."""
    export(cait[0], tmp_path / "out", ["paddle"], outputs=("probabilities",))
    assert read_manifest(tmp_path / "out").outputs == ("probabilities",)
    assert "Scores are logits" not in (tmp_path / "out" / "inference.yml").read_text()
    assert "Scores are logits" in (made[0] / "inference.yml").read_text()
    for found, wanted in zip(*(pc.load_predictor(folder)(photographs) for folder in (tmp_path / "out", made[0]))):
        assert found.labels == wanted.labels
        np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-6)
    counted = [
        pc.evaluate(load_exported(folder), photographs, list_file=photographs / "list.txt", workers=0)
        for folder in (tmp_path / "out", made[0])
    ]
    assert counted[0].top1_correct == counted[1].top1_correct
    assert abs(counted[0].loss - counted[1].loss) < 1e-5
