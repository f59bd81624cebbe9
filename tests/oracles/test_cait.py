"""CaiT against timm's implementation in PyTorch, through the real converter and the authors' own file layout.

Weights are drawn so that a mistake shows (LayerScale near 0.2); timm computes in float64, this package in float32.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
timm = pytest.importorskip("timm", reason="the oracle is timm: make oracles")

import paddle  # noqa: E402
from helpers import draw_state, images, preset, run  # noqa: E402
from timm.models.cait import Cait  # noqa: E402

import paddle_cait as pc  # noqa: E402

NAMES = [name for name in pc.list_models("cait_*") if not name.startswith("cait_m")]
LARGE = ["cait_m36_384", "cait_m48_448"]


def oracle(arch, seed=0):
    """timm's model with drawn weights, in float32."""
    model = Cait(**arch).eval()
    state = draw_state({name: tuple(value.shape) for name, value in model.state_dict().items()}, seed)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model


def save_official(model, path):
    """The authors' layout: every key under "model" with the prefix of DistributedDataParallel."""
    torch.save({"model": {f"module.{name}": value for name, value in model.state_dict().items()}}, path)
    return path


def exact(model, x):
    with torch.no_grad():
        return model.double()(torch.from_numpy(x).double()).numpy()


def check_full_size(name, tmp_path):
    chosen = pc.get_preset(name)
    model = oracle(chosen.arch)
    assert sum(p.numel() for p in model.parameters()) == chosen.num_params
    source = save_official(model, tmp_path / "official.pth")
    ours = tmp_path / "ours.pdparams"
    report = pc.convert(source, ours, model=name)
    assert len(report.loaded) == len(model.state_dict()) and not report.left_out
    x = images(1, chosen.arch["img_size"])
    expected = exact(model, x)
    del model
    found = run(pc.create_model(name, weights=ours), x)
    assert 0.3 < expected.std() < 3  # logits of the size that the bound is meant for
    difference = np.abs(found - expected).max()
    print(f"{name}: max |difference| {difference:.2e}, |logits| up to {np.abs(expected).max():.2f}")
    assert difference < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_logits_at_full_size(name, tmp_path):
    check_full_size(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_logits_of_the_large_models_at_full_size(name, tmp_path):
    check_full_size(name, tmp_path)


@pytest.fixture
def shrunk(tmp_path):
    """(timm model, preset, official file): every kind of layer, every dimension different."""
    chosen = preset(tmp_path)
    model = oracle(chosen.arch)
    return model, chosen, save_official(model, tmp_path / "official.pth")


def test_block_by_block(shrunk):
    model, chosen, source = shrunk
    ours = pc.create_model(chosen, source)
    outputs, expected = {}, {}
    kinds = ("blocks.", "blocks_token_only.", "patch_embed", "norm", "head")
    names = [name for name, _ in ours.named_sublayers() if name.startswith(kinds)]
    layers, modules = dict(ours.named_sublayers()), dict(model.double().named_modules())
    checked = [n for n in names if n in modules and not n.endswith(("drop", "drop_path", "proj_l", "proj_w", ".act"))]
    for name in checked:
        layers[name].register_forward_post_hook(lambda layer, args, out, n=name: outputs.__setitem__(n, out.numpy()))
        modules[name].register_forward_hook(lambda module, args, out, n=name: expected.__setitem__(n, out.numpy()))
    x = images(3, 48)
    run(ours, x)
    exact(model, x)
    assert len(outputs) > 40
    for name in outputs:
        if name == "norm":  # ours normalises the class token alone
            np.testing.assert_allclose(outputs[name], expected[name][:, 0], atol=1e-5, rtol=0, err_msg=name)
        elif name.endswith(("attn.q",)):
            np.testing.assert_allclose(outputs[name][:, 0], expected[name], atol=1e-5, rtol=0, err_msg=name)
        elif name != "patch_embed.proj":
            np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5, rtol=1e-6, err_msg=name)


def test_batch_of_one_equals_batch_of_eight(shrunk):
    model, chosen, source = shrunk
    x = images(8, 48)
    expected = exact(model, x)
    ours = pc.create_model(chosen, source)
    np.testing.assert_allclose(run(ours, x), expected, atol=1e-5)
    for i in range(8):
        np.testing.assert_allclose(run(ours, x[i : i + 1])[0], expected[i], atol=1e-5)


def official_resampling(table, side):
    """facebookresearch/deit main.py's rule for fine-tuning at another size, in PyTorch."""
    old = int(table.shape[1] ** 0.5)
    image = table.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    image = torch.nn.functional.interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
    return image.permute(0, 2, 3, 1).flatten(1, 2)


@pytest.mark.parametrize("size", [32, 64, 112, 160])
def test_other_sizes_equal_the_official_resampling(shrunk, size):
    model, chosen, source = shrunk
    other = Cait(**{**chosen.arch, "img_size": size}).eval()
    state = dict(model.float().state_dict())
    state["pos_embed"] = official_resampling(state["pos_embed"], size // 16)
    other.load_state_dict(state)
    ours = pc.create_model(chosen, source, img_size=size)
    table = ours.state_dict()["pos_embed"].numpy()
    np.testing.assert_allclose(table, state["pos_embed"].numpy(), atol=5e-6)
    x = images(2, size)
    np.testing.assert_allclose(run(ours, x), exact(other, x), atol=1e-5)


def test_a_224_checkpoint_at_384():
    """The real case: 14x14 positions to 24x24."""
    from paddle_cait.layers.pos_embed import PositionTable

    table = np.random.RandomState(0).randn(1, 196, 192).astype(np.float32)
    found = PositionTable("deit", 0, (24, 24)).resample(table, (14, 14))
    np.testing.assert_allclose(found, official_resampling(torch.from_numpy(table).double(), 24).numpy(), atol=1e-6)


def test_gradients_equal_pytorchs(shrunk):
    model, chosen, source = shrunk
    ours = pc.create_model(chosen, source)
    ours.train()
    model.double().train()
    x, labels = images(4, 48), np.array([0, 3, 6, 2])
    loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x).double()), torch.from_numpy(labels))
    loss.backward()
    mine = paddle.nn.functional.cross_entropy(ours(paddle.to_tensor(x)), paddle.to_tensor(labels))
    mine.backward()
    assert abs(float(mine) - loss.item()) < 1e-5
    linear = {f"{n}.weight" for n, layer in ours.named_sublayers() if isinstance(layer, paddle.nn.Linear)}
    expected = {name: p.grad.numpy() for name, p in model.named_parameters()}
    for name, parameter in ours.named_parameters():
        wanted = expected[name].T if name in linear else expected[name]
        scale = max(np.abs(wanted).max(), 1e-3)
        assert np.abs(parameter.grad.numpy() - wanted).max() < 1e-4 * scale, name
