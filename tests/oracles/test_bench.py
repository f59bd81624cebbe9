"""``bench`` beside timm, onnxruntime and OpenVINO on the bundled demo. What is fast is never asserted."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import GOLDEN, ROOT, official_shapes

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the peer is PyTorch: make oracles")
timm = pytest.importorskip("timm", reason="the peer is timm: make oracles")

from PIL import Image  # noqa: E402

from paddle_cait.bench import rounds, run  # noqa: E402
from paddle_cait.bench.timm_models import build, in_timms_names  # noqa: E402
from paddle_cait.cli import bench as command  # noqa: E402
from paddle_cait.presets import list_presets  # noqa: E402

DEMO = str(ROOT / "pretrained" / "demo_cait_digits.pth")
LARGEST = 100_000_000  # parameters; larger ones are the same classes, wider


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rounds, "REST", 0.0)


def settings(**changes):
    short = {"batch_sizes": (2,), "threads": 1, "rounds": 2, "seconds": 0.01, "ceiling": 0}
    return run.Settings("demo_cait_digits", **{**short, **changes})


def fates(result):
    return {f"{row.case.label} {row.case.precision}": row.status + row.reason for row in result.rows}


def test_ours_and_timms_compute_the_same(tmp_path):
    """With the trained weights, so that a class is right or wrong."""
    engines, peers = ["dygraph", "fused", "static", "paddle"], ["eager"]
    if has("onnxruntime") and has("paddle2onnx"):
        engines, peers = [*engines, "onnxruntime"], [*peers, "onnxruntime"]
    if has("openvino") and has("paddle2onnx"):
        engines, peers = [*engines, "openvino"], [*peers, "openvino", "openvino-direct"]
    told = settings(weights=DEMO, engines=tuple(engines), peers=tuple(peers), precisions=("fp32",), ceiling=64)
    result = run.bench(told)
    assert set(fates(result).values()) == {"ok"}, fates(result)
    for row in result.rows:
        assert row.agreement.difference < 1e-5 and row.agreement.top1_equal == 8, row.name
        assert len(row.rounds) == 2 and row.images == 2
    assert ("torch", "fp32") in result.ceilings and len(result.ceilings["numpy", "fp32"]) == 2
    assert result.facts["weights"]["origin"] == "demo_cait_digits.pth"


def has(module):
    import importlib.util

    return importlib.util.find_spec(module) is not None


def test_a_training_step(tmp_path):
    """The losses of four steps are those of PyTorch, also with blocks computed anew in the backward pass."""
    result = run.bench(settings(steps="training"))
    sides = ("paddle_cait dygraph", "timm eager", "paddle_cait dygraph (recomputed)", "timm eager (recomputed)")
    assert fates(result) == {f"{side} fp32": "ok" for side in sides}
    assert all(0 < result.rows[i].agreement.difference < 1e-4 for i in (1, 3))


def test_the_input_pipeline_gives_torchvisions_pixels(tmp_path):
    rng = np.random.RandomState(0)
    for i, (height, width) in enumerate([(40, 60), (50, 33), (32, 32)]):
        Image.fromarray(rng.randint(0, 256, (height, width, 3), np.uint8)).save(tmp_path / f"{i}.jpg")
    result = run.bench(settings(steps="pipeline", data_dir=str(tmp_path)))
    assert fates(result) == {"paddle_cait pipeline exact": "ok", "torchvision pipeline exact": "ok"}
    assert result.rows[1].agreement.images == 3 and result.rows[1].agreement.difference == 0


def test_forms(tmp_path):
    pytest.importorskip("paddle2onnx", reason="it writes the forms: make oracles")
    result = run.bench(settings(forms=True, engines=("dygraph", "paddle"), export_dir=str(tmp_path)))
    assert fates(result) == {"paddle_cait paddle (matmul) fp32": "ok", "paddle_cait paddle (chain) fp32": "ok"}
    assert {path.name for path in (tmp_path / "demo_cait_digits").iterdir()} == {"form-matmul", "form-chain"}


def test_other_weights_are_refused(tmp_path, monkeypatch):
    """An export of other weights computes something else, and is not timed."""
    kept = settings(engines=("paddle",), peers=(), export_dir=str(tmp_path))
    assert set(fates(run.bench(kept)).values()) == {"ok"}
    stamp = tmp_path / "demo_cait_digits" / "paddle" / "SOURCE.json"
    monkeypatch.setattr(
        "paddle_cait.bench.prepare.Sources._key", lambda self, name: json.loads(stamp.read_text())["key"]
    )
    other = settings(
        weights=DEMO, engines=("paddle",), peers=("eager",), precisions=("fp32",), export_dir=str(tmp_path)
    )
    found = fates(run.bench(other))
    assert found.pop("timm eager fp32") == "ok"
    assert found.pop("paddle_cait paddle fp32").startswith("refusedcomputes something else: off by")


@pytest.mark.parametrize("chosen", [p for p in list_presets() if p.num_params < LARGEST], ids=lambda p: p.full_name)
def test_every_preset_is_a_model_of_timms(chosen):
    """Names and shapes, for the presets that are not too large to build here."""
    with torch.device("meta"):
        model = build(chosen)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    state = {key: np.zeros(shape, np.float32) for key, shape in official_shapes(chosen).items()}
    assert {key: value.shape for key, value in in_timms_names(state, wanted).items()} == wanted


@pytest.mark.slow
def test_the_compiled_peer(tmp_path):
    """Half a minute of compiling; the reason is told where a compiler of C++ is missing."""
    (row,) = run.bench(settings(engines=(), peers=("compile",), precisions=("fp32",))).rows
    assert row.status == "ok" or "ompiler" in row.reason


def test_the_command(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["--model", "demo_cait_digits", "--weights", DEMO, "--engines", "dygraph", "--peers", "eager"]
    words += [
        "--precisions",
        "fp32",
        "-b",
        "1",
        "--rounds",
        "2",
        "--seconds",
        "0.01",
        "--ceiling",
        "0",
        "--threads",
        "1",
    ]
    args = parser.parse_args([*words, "--output", str(tmp_path / "page.md"), "--json", str(tmp_path / "bench.json")])
    assert command.run(args) == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [row["status"] for row in found["rows"]] == ["ok", "ok"] and found["versions"]["timm"]
    assert found["rows"][0]["ratios"].keys() == {"best peer", "timm eager"}
    page = (tmp_path / "page.md").read_text()
    assert "--weights demo_cait_digits.pth" in page and "timm 1." in page and str(GOLDEN.parent) not in page
    assert "paddle_cait dygraph" in capsys.readouterr().out
