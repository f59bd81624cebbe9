"""Files as the authors, timm and other ports write them, through the real loader to PyTorch's logits."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
pytest.importorskip("timm", reason="the oracle is timm: make oracles")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="writes the files: make oracles")

import paddle  # noqa: E402
from helpers import draw_state, images, preset, run  # noqa: E402
from timm.models.cait import Cait  # noqa: E402

import paddle_cait as pc  # noqa: E402
from paddle_cait.weights.readers import open_checkpoint  # noqa: E402


@pytest.fixture
def case(tmp_path):
    """(preset, timm model with drawn weights, its logits on two images)."""
    chosen = preset(tmp_path)
    return chosen, *oracle(chosen, seed=0)


def oracle(chosen, seed):
    model = Cait(**chosen.arch).eval()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({n: torch.from_numpy(v) for n, v in draw_state(shapes, seed).items()})
    with torch.no_grad():
        return model, model(torch.from_numpy(images(2, 48))).numpy()


def assert_logits(chosen, path, expected, atol=1e-5, **options):
    model = pc.create_model(chosen, path, **options)
    np.testing.assert_allclose(run(model, images(2, 48)), expected, atol=atol)
    return model.load_report


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", ["model", "state_dict", None])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_pth(case, tmp_path, zipped, wrap, prefix):
    chosen, model, expected = case
    state = {prefix + name: value for name, value in model.state_dict().items()}
    torch.save({wrap: state} if wrap else state, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    report = assert_logits(chosen, tmp_path / "x", expected)
    assert report.format == ("pth-zip" if zipped else "pth-legacy") and report.entry == (wrap or "")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_deit_training_checkpoint(case, tmp_path, zipped):
    """As facebookresearch/deit's main.py saves it: weights, EMA, optimizer, schedule, scaler and the arguments."""
    chosen, model, expected = case
    ema, ema_logits = oracle(chosen, seed=1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 3, 48, 48)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        expected = model(torch.from_numpy(images(2, 48))).numpy()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    content = {
        "model": model.state_dict(),
        "model_ema": ema.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {k: v for k, v in schedule.state_dict().items() if not k.startswith("_")},
        "epoch": 299,
        "scaler": {"scale": 65536.0, "growth_tracker": 7},
        "args": argparse.Namespace(model="cait", lr=1e-3, data_path=Path("data"), distributed=True),
        "best": np.float64(78.4),
    }
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    report = assert_logits(chosen, tmp_path / "x.pth", expected)
    assert report.left_out["optimizer"] == report.left_out["args"] == "training state"
    assert "entry='model_ema'" in report.left_out["model_ema"]
    assert assert_logits(chosen, tmp_path / "x.pth", ema_logits, entry="model_ema").entry == "model_ema"


def test_a_timm_training_checkpoint(case, tmp_path):
    chosen, model, expected = case
    content = {"epoch": 3, "arch": "cait", "state_dict": model.state_dict(), "state_dict_ema": model.state_dict()}
    torch.save({**content, "metric": 78.4, "version": 2}, tmp_path / "x.pth.tar")
    assert assert_logits(chosen, tmp_path / "x.pth.tar", expected).entry == "state_dict"


def test_parameters_instead_of_tensors(case, tmp_path):
    chosen, model, expected = case
    torch.save(dict(model.named_parameters()), tmp_path / "x.pth")
    assert_logits(chosen, tmp_path / "x.pth", expected)


@pytest.mark.parametrize(
    ("dtype", "atol"), [("float32", 1e-5), ("float16", 1e-5), ("bfloat16", 1e-5), ("float64", 1e-5)]
)
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_precisions(case, tmp_path, dtype, atol, kind):
    """Half precision is widened exactly: the oracle runs on the same rounded weights."""
    chosen, model, _ = case
    rounded = {name: value.to(getattr(torch, dtype)) for name, value in model.state_dict().items()}
    path = tmp_path / f"x.{kind}"
    if kind == "safetensors":
        safetensors_torch.save_file(rounded, path)
    else:
        torch.save(rounded, path)
    model.load_state_dict({name: value.float() for name, value in rounded.items()})
    with torch.no_grad():
        expected = model(torch.from_numpy(images(2, 48))).numpy()
    assert_logits(chosen, path, expected, atol)


def test_paddle_image_models_and_paddlevit(case, tmp_path):
    """Their converters transpose every Linear weight, square ones included, and paddle.save the state dict."""
    chosen, model, expected = case
    twin = pc.create_model(chosen)
    linear = {f"{n}.weight" for n, layer in twin.named_sublayers() if isinstance(layer, paddle.nn.Linear)}
    turned = {n: v.numpy().T.copy() if n in linear else v.numpy() for n, v in model.state_dict().items()}
    twin.set_state_dict(turned)
    paddle.save(twin.state_dict(), str(tmp_path / "ppim.pdparams"))
    assert assert_logits(chosen, tmp_path / "ppim.pdparams", expected).orientation.startswith("Paddle")
    renamed = {n.replace("patch_embed.proj", "patch_embed.patch_embed"): paddle.to_tensor(v) for n, v in turned.items()}
    paddle.save(renamed, str(tmp_path / "paddlevit.pdparams"))
    assert assert_logits(chosen, tmp_path / "paddlevit.pdparams", expected).layout == "paddlevit"


@pytest.mark.parametrize("source", ["pth", "legacy", "safetensors"])
@pytest.mark.parametrize("ours", [".pdparams", ".safetensors"])
def test_round_trips_are_bit_exact(case, tmp_path, source, ours):
    chosen, model, _ = case
    state = model.state_dict()
    path = tmp_path / "official"
    if source == "safetensors":
        safetensors_torch.save_file(state, path)
    else:
        wrapped = {"model": {f"module.{n}": v for n, v in state.items()}}
        torch.save(wrapped, path, _use_new_zipfile_serialization=source == "pth")
    pc.convert(path, tmp_path / f"ours{ours}", model=chosen)
    pc.convert(tmp_path / f"ours{ours}", tmp_path / "again.safetensors", model=chosen, layout="official")
    again = safetensors_torch.load_file(tmp_path / "again.safetensors")
    assert again.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(again[name], value), name
    model.load_state_dict(again)  # PyTorch takes it as its own
    pc.convert(tmp_path / f"ours{ours}", tmp_path / "again.pdparams", model=chosen, layout="official")
    with open_checkpoint(tmp_path / "again.pdparams") as checkpoint:
        for name, value in state.items():
            assert np.array_equal(checkpoint.tree[name].read(), value.numpy()), name
