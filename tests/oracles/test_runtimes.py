"""The bundled model, exported and run by onnxruntime and OpenVINO: the model's logits, counts and predictions."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import paddle
import pytest
from helpers import ROOT

import paddle_cait as pc
from paddle_cait.cli.main import main
from paddle_cait.data.sources import open_source
from paddle_cait.deploy.manifest import Artifact, read_manifest
from paddle_cait.deploy.predictor import load_predictor
from paddle_cait.deploy.sessions import open_session

pytest.importorskip("onnxruntime", reason="it runs what is exported: make oracles")
openvino = pytest.importorskip("openvino", reason="it runs what is exported: make oracles")
pytest.importorskip("paddle2onnx", reason="the exporter's ONNX files are written with it: make oracles")
pytest.importorskip("onnx")

from paddle_cait.deploy.exporter import export  # noqa: E402

MODEL = "demo_cait_digits"
CHECKPOINT = ROOT / "pretrained" / "demo_cait_digits.pth"
DIGITS = ROOT / "pretrained" / "demo_digits" / "digits.tar"
RIGHT = 354  # of 360, PyTorch's

RUNS = [
    ("paddle", None, None),
    ("onnxruntime", None, None),
    ("openvino", None, None),
    ("openvino", "onnx", None),
    ("openvino", None, "fp16"),
    ("openvino", None, "bf16"),
]
LIMITS = {None: 1e-5, "fp16": 1e-2, "bf16": 0.2}  # logits are about 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "out"
    export(pc.create_model(MODEL, CHECKPOINT), out, ("paddle", "onnx", "openvino", "openvino:fp16"))
    return out


@pytest.fixture(scope="module")
def reference():
    """(images, the dygraph model's logits)."""
    model = pc.create_model(MODEL, CHECKPOINT)
    model.eval()
    x = np.random.RandomState(0).standard_normal((9, 3, 32, 32)).astype(np.float32)
    with paddle.no_grad():
        return x, model(paddle.to_tensor(x)).numpy()


def has_bf16():
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize(("engine", "artifact", "precision"), RUNS)
def test_logits_of_any_batch_are_the_models(folder, reference, engine, artifact, precision):
    if precision == "bf16" and not has_bf16():
        with pytest.raises(pc.PaddleCaitError, match="this CPU does not compute in bf16: use fp32"):
            open_session(folder, read_manifest(folder), engine, artifact, precision=precision)
        return
    x, logits = reference
    session = open_session(folder, read_manifest(folder), engine, artifact, threads=1, precision=precision)
    assert (session.engine, session.precision, session.settings["threads"]) == (engine, precision or "fp32", 1)
    first = session(x[:4])[0]
    for start, stop in ((0, 4), (4, 8), (8, 9), (0, 9), (0, 4)):  # the usual size, the rest, others, the usual again
        (found,) = session(x[start:stop])
        scale = np.maximum(1, np.abs(logits[start:stop]))
        assert (np.abs(found - logits[start:stop]) / scale).max() < LIMITS[precision]
    assert (first == session(x[:4])[0]).all()
    if precision:
        assert np.abs(found - logits[:4]).max() > 1e-4, "this precision was not used"


def test_the_choice_without_a_wish(folder):
    session = open_session(folder, read_manifest(folder), device="cpu")
    assert (session.engine, session.settings["artifact"], session.precision) == ("openvino", "openvino", "fp32")
    assert session.settings["inference_precision_hint"] == "f32" and session.settings["version"][:3] == "202"


@pytest.mark.parametrize(("engine", "artifact", "precision"), RUNS)
def test_eval_counts_as_pytorch_did(folder, tmp_path, capsys, engine, artifact, precision):
    if precision == "bf16" and not has_bf16():
        pytest.skip("this CPU does not compute in bfloat16")
    words = ["eval", "--weights", folder, "--data", DIGITS, "-j", 0, "--device", "cpu", "--engine", engine]
    words += ["--artifact", artifact] if artifact else []
    words += ["--precision", precision] if precision else []
    words += ["--output-dir", tmp_path / "out", "--json", tmp_path / "r.json"]
    code = main([str(word) for word in words])
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["engine"], found["precision"]) == (engine, precision or "fp32")
    used = read_manifest(folder).artifact(found["runtime"]["artifact"])
    assert found["runtime"]["files"] == used.files
    verdict = capsys.readouterr().out.splitlines()[-1]
    if precision:
        assert abs(found["top1_correct"] - RIGHT) <= 2 and f"(computed in {precision} by openvino)" in verdict
    else:
        assert code == 0 and found["top1_correct"] == RIGHT and verdict.startswith("PASS")
        assert found["loss"] == pytest.approx(0.094474, abs=2e-6)  # PyTorch's


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("paddle", "torch", "cv2", "onnx", "pandas", "scipy"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
from paddle_cait.cli.main import main
code = main(sys.argv[1:])
assert "paddle" not in sys.modules
sys.exit(code)
"""


@pytest.mark.parametrize("engine", ["auto", "onnxruntime", "openvino"])
def test_predict_where_paddle_cannot_be_imported(folder, tmp_path, engine):
    source = open_source(DIGITS, DIGITS.with_name("val_list.txt"))
    (tmp_path / "photos").mkdir()
    for i in range(5):
        (tmp_path / "photos" / f"{i}.png").write_bytes(source.read(i))
    words = ["predict", str(folder), str(tmp_path / "photos"), "--engine", engine, "--device", "cpu"]
    words += ["--format", "json"]
    done = subprocess.run([sys.executable, "-c", BLOCKED, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["predictions"]
    expected = load_predictor(CHECKPOINT, model=MODEL)(tmp_path / "photos")
    for ours, theirs in zip(found, expected):
        assert ours["labels"][0] == theirs.labels[0] and ours["path"] == theirs.path
        np.testing.assert_allclose(ours["probabilities"], theirs.probabilities, atol=1e-5)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *words, "--engine", "paddle"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and "paddle cannot be used here: `pip install paddlepaddle`" in done.stderr


@pytest.mark.parametrize(("engine", "form"), [("onnxruntime", "onnx"), ("openvino", "onnx")])
def test_a_file_that_no_runtime_understands_is_one_line(folder, tmp_path, engine, form):
    told = read_manifest(folder)
    (tmp_path / "inference.onnx").write_bytes(b"\x08\x07nothing")
    digest = hashlib.sha256(b"\x08\x07nothing").hexdigest()
    broken = dataclasses.replace(told, artifacts=(Artifact(form, "fp32", {"inference.onnx": digest}, 9),))
    with pytest.raises(pc.PaddleCaitError, match=rf"inference\.onnx: {engine} cannot open it"):
        open_session(tmp_path, broken, engine)
