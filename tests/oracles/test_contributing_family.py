"""The family that CONTRIBUTING.md walks through, as it stands on the page, against timm's model of that name."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
timm = pytest.importorskip("timm", reason="the oracle is timm: make oracles")

from helpers import draw_state, images, run  # noqa: E402
from test_contributing import LOGITS, add_family, pictures, shrunk  # noqa: E402
from timm.models.mlp_mixer import MlpMixer  # noqa: E402

import paddle_cait as pc  # noqa: E402


def drawn(model):
    state = draw_state({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model.eval()


def logits(model, x):
    with torch.no_grad():
        return model.double()(torch.from_numpy(x).double()).numpy()


def test_shrunk(tmp_path, monkeypatch):
    tiny = shrunk(tmp_path, add_family(tmp_path, monkeypatch))
    arch = dict(tiny.arch)
    ratios = (arch.pop("mlp_ratio_tokens"), arch.pop("mlp_ratio"))
    oracle = drawn(MlpMixer(num_blocks=arch.pop("depth"), mlp_ratio=ratios, **arch))
    torch.save(oracle.state_dict(), tmp_path / "timm.pth")
    ours = pc.create_model(tiny, tmp_path / "timm.pth")
    expected = logits(oracle, pictures())
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(run(ours, pictures()), expected, atol=1e-5)
    np.testing.assert_allclose(LOGITS, expected, atol=1e-6)  # what the light test compares with


def test_full_size(tmp_path, monkeypatch):
    chosen = add_family(tmp_path, monkeypatch)
    oracle = drawn(timm.create_model("mixer_b16_224"))
    assert sum(p.numel() for p in oracle.parameters()) == chosen.num_params
    config, own = oracle.pretrained_cfg, chosen.preprocess
    assert (config["mean"], config["std"], config["interpolation"]) == (own.mean, own.std, own.interpolation)
    assert (config["crop_pct"], config["input_size"]) == (own.crop_pct, (3, own.img_size, own.img_size))
    assert config["url"] == chosen.checkpoint.url
    torch.save(oracle.state_dict(), tmp_path / "timm.pth")
    ours = pc.create_model(chosen, tmp_path / "timm.pth")
    x = images(1, 224)
    np.testing.assert_allclose(run(ours, x), logits(oracle, x), atol=1e-5)
