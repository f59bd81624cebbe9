"""One model, several engines, the same counts; and runs that are never mixed."""

import dataclasses
import json

import numpy as np
import paddle
import pytest
from helpers import ROOT
from make_export import export_by_hand, save_paddle

import paddle_cait as pc
from paddle_cait.cli.eval_engines import offer_export
from paddle_cait.cli.main import main
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import PixelTransform, eval_transform
from paddle_cait.deploy.exported import load_exported
from paddle_cait.deploy.manifest import read_manifest
from paddle_cait.engine.engines import LayerEngine, as_engine
from paddle_cait.engine.evaluate import _identity

MODEL = "demo_cait_digits"
CHECKPOINT = ROOT / "pretrained" / "demo_cait_digits.pth"
DIGITS = ROOT / "pretrained" / "demo_digits" / "digits.tar"
COUNT = 354  # of 360, PyTorch's


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The bundled model, exported by hand."""
    out = tmp_path_factory.mktemp("digits") / "out"
    export_by_hand(out, pc.get_preset(MODEL), CHECKPOINT)
    return out


@pytest.fixture(scope="module")
def dataset():
    return ImageDataset(open_source(DIGITS, DIGITS.with_name("val_list.txt")), eval_transform(MODEL))


@pytest.fixture(scope="module")
def dygraph(dataset):
    return pc.evaluate(pc.create_model(MODEL, CHECKPOINT), dataset, workers=0)


def evaluate_cli(tmp_path, *words):
    given = ["eval", "--data", str(DIGITS), "-j", "0", "--device", "cpu", "--output-dir", str(tmp_path / "out")]
    return main([*given, "--json", str(tmp_path / "r.json"), *map(str, words)])


def test_every_engine_of_paddle_counts_the_same(dataset, dygraph, folder):
    assert (dygraph.engine, dygraph.precision, dygraph.top1_correct) == ("dygraph", "fp32", COUNT)
    static = pc.evaluate(LayerEngine(pc.create_model(MODEL, CHECKPOINT), static=True), dataset, workers=0)
    exported = pc.evaluate(load_exported(folder, engine="paddle", threads=1), dataset, workers=0, batch_size=50)
    for found, engine in ((static, "static"), (exported, "paddle")):
        assert found.engine == engine and found.top1_correct == COUNT
        np.testing.assert_array_equal(found.rows.top, dygraph.rows.top)
        np.testing.assert_allclose(found.rows.loss, dygraph.rows.loss, atol=1e-5)
        assert found.weights_sha256 == dygraph.weights_sha256 and found.model == dygraph.model
        assert found.verdict(pc.get_preset(MODEL).published).status == "PASS"
    assert exported.runtime["files"] == read_manifest(folder).artifacts[0].files
    assert exported.runtime["threads"] == 1 and dygraph.runtime["files"] == {}


def test_a_traced_layer_is_left_as_it_was(dataset):
    model = pc.create_model(MODEL, CHECKPOINT)
    model.train()
    forward = type(model.forward)
    pc.evaluate(LayerEngine(model, static=True), dataset, workers=0, limit=3)
    assert model.training and type(model.forward) is forward
    assert as_engine(model).engine == "dygraph"


def test_a_traced_layer_gets_images_of_its_size(dygraph):
    model = pc.create_model(MODEL, CHECKPOINT, img_size=64)
    told = {"list_file": DIGITS.with_name("val_list.txt"), "workers": 0, "limit": 3}
    found = pc.evaluate(LayerEngine(model, static=True), DIGITS, **told)
    assert found.preprocess.img_size == 64
    np.testing.assert_allclose(found.rows.loss, pc.evaluate(model, DIGITS, **told).rows.loss, atol=1e-5)


def test_an_exported_folder_takes_a_path_too(folder, tmp_path):
    result = pc.evaluate(
        load_exported(folder, engine="paddle"), DIGITS, list_file=DIGITS.with_name("val_list.txt"), workers=0, limit=20
    )
    assert result.n == 20 and result.preprocess == pc.get_preset(MODEL).preprocess
    own = load_exported(folder, engine="paddle")
    own.preset = None
    with pytest.raises(pc.PaddleCaitError, match="'timm' is a setting of a preset"):
        pc.evaluate(own, DIGITS, list_file=DIGITS.with_name("val_list.txt"), preprocess="timm")


def test_runs_are_never_mixed(dataset, folder):
    layer = pc.create_model(MODEL, CHECKPOINT)
    exported = load_exported(folder, engine="paddle")
    other = load_exported(folder, engine="paddle")
    other.files = dict.fromkeys(exported.files, "0" * 64)
    bf16 = load_exported(folder, engine="paddle")
    bf16.precision = "bf16"
    labels = dataset.source.label_set
    found = [
        _identity(model, dataset, labels, [0, 1])
        for model in (layer, LayerEngine(layer, static=True), exported, other, bf16)
    ]
    assert len({json.dumps(one, sort_keys=True) for one in found}) == len(found)
    assert _identity(exported, dataset, labels, [0, 1]) == _identity(
        load_exported(folder, engine="paddle", threads=1), dataset, labels, [0, 1]
    )  # threads do not matter


def test_another_precision_is_judged_and_named(dygraph):
    published = pc.get_preset(MODEL).published
    found = dataclasses.replace(dygraph, precision="bf16", engine="openvino").verdict(published)
    assert found.status == "PASS" and found.reason.endswith("(computed in bf16 by openvino)")
    assert "computed in" not in dygraph.verdict(published).reason


def test_uint8_pixels(dataset, dygraph, folder, tmp_path):
    class FromPixels(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.model = pc.create_model(MODEL, CHECKPOINT)

        def forward(self, x):
            return self.model((x.astype("float32").transpose([0, 3, 1, 2]) / 255 - 0.5) / 0.5)

    made = save_paddle(FromPixels(), tmp_path, [32, 32, 3], "uint8")
    dataclasses.replace(read_manifest(folder), artifacts=(made,), input_dtype="uint8").write(tmp_path)
    model = load_exported(tmp_path, engine="paddle")
    pixels = model.adapt(eval_transform(MODEL))
    assert isinstance(pixels, PixelTransform)
    found = pc.evaluate(model, ImageDataset(dataset.source, pixels), workers=2)
    np.testing.assert_array_equal(found.rows.top, dygraph.rows.top)
    assert found.preprocess == dygraph.preprocess
    with pytest.raises(pc.PaddleCaitError, match="mean and deviation folded in"):
        model.adapt(eval_transform(MODEL, mean=(0.4, 0.4, 0.4)))


def test_eval_of_a_folder_needs_no_model_name(folder, tmp_path, capsys):
    assert evaluate_cli(tmp_path, "--weights", folder, "--engine", "paddle") == 0
    out = capsys.readouterr().out
    assert f"({COUNT}/360)" in out and out.splitlines()[-1].startswith("PASS") and "computed    paddle " in out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["top1_correct"] == COUNT and found["model"] == "demo_cait_digits.digits"
    assert (found["engine"], found["precision"]) == ("paddle", "fp32")
    assert found["weights_sha256"] == read_manifest(folder).weights["sha256"]
    assert found["runtime"]["files"] == read_manifest(folder).artifacts[0].files
    assert found["runtime"]["version"] and found["runtime"]["artifact"] == "paddle"


def test_eval_in_a_static_graph(tmp_path, capsys):
    assert evaluate_cli(tmp_path, "--model", MODEL, "--weights", CHECKPOINT, "--engine", "static") == 0
    assert f"({COUNT}/360)" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["engine"] == "static"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["CHECKPOINT", "--engine", "openvino"], "is a checkpoint, run by dygraph or static in fp32; for openvino run"),
        (["CHECKPOINT", "--precision", "int8"], "for int8 run `paddle-cait export` first and give its folder"),
        (["CHECKPOINT", "--artifact", "onnx"], "for onnx run `paddle-cait export` first"),
        (["CHECKPOINT", "--threads", "0"], "--threads is 0"),
        (["FOLDER", "--engine", "static"], "--engine static needs the checkpoint"),
        (["FOLDER", "--engine", "onnxruntime"], "onnxruntime in fp32 opens onnx, but it holds paddle"),
        (["FOLDER", "--artifact", "openvino:int8"], "holds no 'openvino:int8' but paddle"),
        (["FOLDER", "--model", "cait_xxs24_224"], "holds demo_cait_digits.digits, not --model cait_xxs24_224"),
        (["FOLDER", "--img-size", "64"], "img_size is 64, demo_cait_digits.digits was exported for 32x32"),
        (["FOLDER", "--protocol", "knn"], "--protocol knn needs the checkpoint"),
        (["FOLDER", "--num-classes", "5"], "--num-classes belongs to a checkpoint"),
        (["FOLDER", "--entry", "model_ema"], "--entry belongs to a checkpoint"),
        (["EMPTY"], "holds no EXPORT.json"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    first = {
        "CHECKPOINT": ["--model", MODEL, "--weights", CHECKPOINT],
        "FOLDER": ["--weights", folder],
        "EMPTY": ["--weights", tmp_path / "empty"],
    }[words[0]]
    assert evaluate_cli(tmp_path, *first, *words[1:]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("paddle-cait ")]
    assert len(errors) == 1 and message in errors[0]


def test_a_folder_of_an_unknown_preset(folder, tmp_path, capsys):
    told = read_manifest(folder)
    for name in told.artifacts[0].files:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    dataclasses.replace(told, model="mine.own").write(tmp_path)
    assert evaluate_cli(tmp_path, "--weights", tmp_path, "--engine", "paddle") == 2
    assert "holds mine.own, which is no preset: give its --preset-file" in capsys.readouterr().err


def test_a_fine_tuned_export_has_no_published_number(folder, tmp_path, capsys):
    """Ten classes where the preset has a thousand."""
    told = read_manifest(folder)
    for name in told.artifacts[0].files:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    dataclasses.replace(told, model="cait_xxs24_224.fb_dist_in1k").write(tmp_path)
    assert evaluate_cli(tmp_path, "--weights", tmp_path, "--engine", "paddle", "--limit", 20) == 0
    assert "NOT COMPARABLE: no accuracy was published for these weights" in capsys.readouterr().out


def test_an_export_is_offered_after_a_long_evaluation_in_dygraph(caplog):
    caplog.set_level("INFO", logger="paddle_cait")
    for changes in ({"n": 999}, {"device": "gpu:0"}, {"engine": "openvino"}):
        offer_export({"engine": "dygraph", "device": "cpu", "n": 50000, **changes})
    assert not caplog.text
    offer_export({"engine": "dygraph", "device": "cpu", "n": 50000})
    assert "these weights evaluate faster as an export" in caplog.text
