"""Sessions: what is chosen, what it computes, and one clear line for what cannot be. Other runtimes: tests/oracles."""

import dataclasses

import numpy as np
import pytest
from helpers import draw_state, images, npz, official_shapes, preset, run
from make_export import export_by_hand, manifest

import paddle_cait as pc
from paddle_cait.deploy import runtimes, sessions
from paddle_cait.deploy.manifest import Artifact, read_manifest
from paddle_cait.deploy.sessions import default_threads, open_session


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A shrunk CaiT, exported by hand: (folder, manifest, model, images, its logits)."""
    folder = tmp_path_factory.mktemp("made")
    tiny = preset(folder)
    weights = npz(folder / "drawn.npz", draw_state(official_shapes(tiny)))
    export_by_hand(folder / "out", tiny, weights)
    model = pc.create_model(tiny, weights)
    x = images(5, 48)
    return folder / "out", read_manifest(folder / "out"), model, x, run(model, x)


def test_paddle_inference_computes_the_models_logits_for_any_batch(made):
    folder, told, _, x, expected = made
    session = open_session(folder, told, "paddle", threads=1)
    for batch in (x, x[:1], x[1:4], x):
        (logits,) = session(batch)
        start = 1 if len(batch) == 3 else 0
        np.testing.assert_allclose(logits, expected[start : start + len(batch)], atol=1e-5)
        assert logits.dtype == np.float32
    assert (session.engine, session.precision, session.settings["onednn"]) == ("paddle", "fp32", False)
    assert session.describe().endswith("fp32, 1 thread on cpu, oneDNN off")


def test_earlier_outputs_are_not_overwritten(made):
    folder, told, _, x, expected = made
    session = open_session(folder, told, "paddle", threads=1)
    (first,) = session(x[:2])
    session(x[2:4])
    np.testing.assert_allclose(first, expected[:2], atol=1e-5)


def test_images_of_another_shape_or_type_are_one_line(made):
    session = open_session(made[0], made[1], "paddle", threads=1)
    for wrong in (made[3].astype(np.float64), made[3][:, :, :32], made[3][:0], made[3][0]):
        with pytest.raises(pc.PaddleCaitError, match=r"expected float32 \[B, 3, 48, 48\]"):
            session(wrong)


def test_one_dnn_is_what_the_export_says(made):
    folder, told, _, x, expected = made
    told = dataclasses.replace(told, settings={"onednn": True})
    session = open_session(folder, told, "paddle", threads=1)
    assert session.settings["onednn"] is True and session.describe().endswith("oneDNN on")
    np.testing.assert_allclose(session(x)[0], expected, atol=1e-4)


def test_a_damaged_file_is_one_line(made, tmp_path):
    program = made[1].artifacts[0].entry
    for name in made[1].artifacts[0].files:
        (tmp_path / name).write_bytes((made[0] / name).read_bytes())
    open_session(tmp_path, made[1], "paddle", threads=1)
    (tmp_path / program).write_bytes(b"{}")
    with pytest.raises(pc.PaddleCaitError, match=f"{program}: is not the file that was exported"):
        open_session(tmp_path, made[1], "paddle", threads=1)


# --- which runtime is chosen


def folder_of(*names, **changes):
    """A manifest that lists artifacts such as ``onnx:int8``."""
    found = [Artifact(name.partition(":")[0], name.partition(":")[2] or "fp32", {f"{name}.x": ""}, 1) for name in names]
    return manifest(pc.get_preset("demo_cait_digits"), found, **changes)


@pytest.fixture
def chosen(monkeypatch):
    """``chosen(manifest, ...)`` -> what would be opened; ``chosen.there``: the (engine, device) that are installed."""
    there = {(known.engine, "cpu") for known in runtimes.CAPABILITIES}
    monkeypatch.setattr(sessions, "is_there", lambda known: (known.engine, known.device) in there)

    def opened(engine, folder, files, options):
        settings = {"engine": engine, "precision": options.precision, "device": options.device}
        return None, {**settings, "artifact": files.name, "options": options}

    monkeypatch.setattr(sessions, "open_runtime", opened)
    monkeypatch.setattr(sessions, "check_files", lambda folder, files: None)

    def choose(told, **asked):
        s = open_session("out", told, **asked).settings
        return s["engine"], s["artifact"], s["precision"], s["device"]

    choose.there = there
    return choose


def test_the_fastest_installed_runtime_in_fp32(chosen):
    told = folder_of("paddle", "onnx", "onnx:int8", "openvino", "openvino:fp16")
    assert chosen(told) == ("openvino", "openvino", "fp32", "cpu")
    chosen.there.remove(("openvino", "cpu"))
    assert chosen(told) == ("onnxruntime", "onnx", "fp32", "cpu")
    chosen.there.remove(("onnxruntime", "cpu"))
    assert chosen(told) == ("paddle", "paddle", "fp32", "cpu")


def test_a_gpu_is_taken_if_a_runtime_sees_one_and_opens_the_folder(chosen):
    chosen.there.add(("paddle", "gpu"))
    assert chosen(folder_of("paddle", "openvino")) == ("paddle", "paddle", "fp32", "gpu:0")
    assert chosen(folder_of("paddle", "openvino"), device="gpu:1") == ("paddle", "paddle", "fp32", "gpu:1")
    assert chosen(folder_of("paddle", "openvino"), device="cpu")[0] == "openvino"
    assert chosen(folder_of("openvino"))[3] == "cpu"


def test_what_is_asked_for_decides(chosen):
    told = folder_of("paddle", "onnx", "onnx:int8", "openvino", "openvino:fp16")
    assert chosen(told, engine="paddle")[:2] == ("paddle", "paddle")
    assert chosen(told, precision="bf16")[:3] == ("openvino", "openvino", "bf16")
    assert chosen(told, precision="fp16")[:3] == ("openvino", "openvino:fp16", "fp16")
    assert chosen(told, precision="int8")[:3] == ("openvino", "onnx:int8", "int8")
    assert chosen(told, artifact="onnx:int8", engine="onnxruntime")[1:3] == ("onnx:int8", "int8")
    assert chosen(told, artifact="onnx") == ("openvino", "onnx", "fp32", "cpu")  # it opens ONNX files too
    assert chosen(folder_of("onnx"), engine="openvino")[1] == "onnx"
    assert chosen(folder_of("paddle"), precision="bf16")[0] == "paddle"


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        ("paddle", {"engine": "torch"}, "engine is 'torch', expected one of paddle, onnxruntime, openvino"),
        ("paddle", {"precision": "fp8"}, "precision is 'fp8', expected one of fp32, bf16, fp16, int8"),
        ("paddle", {"device": "tpu"}, "device is 'tpu', expected auto, cpu, gpu or gpu:NUMBER"),
        ("paddle", {"device": "cpu:1"}, "device is 'cpu:1'"),
        ("paddle", {"threads": 0}, "threads is 0, expected 1 or more"),
        ("paddle onnx", {"artifact": "onnx:int8"}, "out: holds no 'onnx:int8' but paddle, onnx; export it too"),
        ("paddle", {"engine": "onnxruntime"}, "out: onnxruntime in fp32 opens onnx, but it holds paddle; export what"),
        ("paddle onnx", {"engine": "paddle", "artifact": "onnx"}, "opens paddle, but 'onnx' was asked for"),
        ("onnx", {"precision": "int8"}, "any runtime in int8 opens openvino:int8 or onnx:int8, but it holds onnx"),
        ("onnx", {"engine": "onnxruntime", "precision": "bf16"}, "computes in fp32, fp16, int8, not in bf16: that is"),
        ("onnx:int8", {"artifact": "onnx:int8", "precision": "fp32"}, "in fp32 opens .* but 'onnx:int8' was asked for"),
        ("openvino", {"engine": "openvino", "device": "gpu"}, "openvino does not compute on a GPU here"),
        ("paddle", {"device": "gpu"}, "paddle cannot be used here with a GPU: `pip install paddlepaddle-gpu`"),
    ],
)
def test_what_cannot_be_is_one_line(chosen, names, asked, message):
    with pytest.raises(pc.PaddleCaitError, match=message):
        chosen(folder_of(*names.split()), **asked)


def test_what_is_not_installed_says_how_to_install_it(chosen):
    chosen.there.clear()
    with pytest.raises(
        pc.PaddleCaitError, match="openvino and onnxruntime cannot be used here: `pip install openvino` or `pip inst"
    ):
        chosen(folder_of("onnx"))
    with pytest.raises(pc.PaddleCaitError, match="paddle cannot be used here: `pip install paddlepaddle`"):
        chosen(folder_of("paddle", "onnx"), engine="paddle")


def test_bf16_where_one_dnn_does_not_suit(made):
    told = dataclasses.replace(made[1], settings={"onednn": False})
    with pytest.raises(pc.PaddleCaitError, match="which this model does not suit: use openvino"):
        open_session(made[0], told, "paddle", precision="bf16")


def test_threads_follow_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    assert default_threads() >= 1


def test_more_outputs_than_the_manifest_names(made):
    told = dataclasses.replace(made[1], outputs=("logits", "features"))
    with pytest.raises(pc.PaddleCaitError, match="gives 1 outputs, expected logits, features; export again"):
        open_session(made[0], told, "paddle", threads=1)(made[3])


def test_an_export_of_paddle_3_is_not_given_to_paddle_2(tmp_path, monkeypatch):
    """Paddle 2.6.2 ends the process at it."""
    import paddle

    monkeypatch.setattr(paddle, "__version__", "2.6.2")
    artifact = Artifact("paddle", "fp32", {"inference.json": "0" * 64, "inference.pdiparams": "0" * 64}, 0)
    with pytest.raises(pc.PaddleCaitError, match=r"inference\.json: Paddle 3 wrote it, Paddle 2\.6\.2 cannot open it"):
        runtimes.open_runtime("paddle", tmp_path, artifact, runtimes.Options("cpu", 1, "fp32"))
