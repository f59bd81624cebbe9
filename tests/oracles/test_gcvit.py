"""GCViT against timm (1.0.31 or later), through the real loader, in the authors' layout and in timm's.

Weights are drawn so that a mistake shows; timm computes in float64, this package in float32.
"""

import re
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
from timm.models.gcvit import GlobalContextVit  # noqa: E402

import paddle_cait as pc  # noqa: E402

NAMES = ["gcvit_xxtiny", "gcvit_xtiny", "gcvit_tiny", "gcvit_small", "gcvit_base"]
SHRUNK = {"embed_dim": 32, "depths": (2, 3, 2, 2), "num_heads": (2, 4, 8, 16), "mlp_ratio": 2.0, "num_classes": 7}


def drawn(model):
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    state = draw_state(shapes)
    for name in shapes:
        if name.endswith("relative_position_bias_table"):
            state[name] = np.random.RandomState(len(name)).randn(*shapes[name]).astype("float32")
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model.eval()


def as_nvlabs(state):
    """timm's names back to NVlabs', by the facts of the reference notes: the downsampling ends a level there."""
    renamed = {}
    for name, value in state.items():
        if ".se.fc" in name:
            value = value[:, :, 0, 0]
        name = re.sub(r"^stem\.conv1", "patch_embed.proj", name)
        name = re.sub(r"^stem\.down", "patch_embed.conv_down", name)
        name = re.sub(r"^stages\.(\d)\.downsample", lambda m: f"levels.{int(m[1]) - 1}.downsample", name)
        name = re.sub(r"^stages\.3\.norm", "norm", name)
        name = name.replace("stages.", "levels.")
        name = re.sub(
            r"global_block\.blocks\.conv(\d)", lambda m: f"q_global_gen.to_q_global.{int(m[1]) - 1}.conv_block", name
        )
        for theirs, official in {"conv_dw": "0", "se.fc1": "2.fc.0", "se.fc2": "2.fc.2", "conv_pw": "3"}.items():
            name = name.replace(f"conv_block.{theirs}", f"conv.{official}")
        name = name.replace("rel_pos.", "").replace("ls1.gamma", "gamma1").replace("ls2.gamma", "gamma2")
        renamed[name.replace("head.fc", "head")] = value
    return renamed


def save_nvlabs(model, path):
    """As timm's CheckpointSaver wrote it for the authors, with their int64 index buffers and an average."""
    state = as_nvlabs(model.state_dict())
    buffers = {
        name.replace("_bias_table", "_index"): torch.zeros(49, 49, dtype=torch.int64)
        for name in state
        if name.endswith("_bias_table")
    }
    content = {
        "epoch": 300,
        "arch": "gcvit",
        "state_dict": {**state, **buffers},
        "state_dict_ema": state,
        "metric": 79.9,
    }
    torch.save(content, path)
    return path


def exact(model, x):
    with torch.no_grad():
        return model.double()(torch.from_numpy(x).double()).numpy()


@pytest.fixture(params=[None, 1e-5])
def shrunk(request, tmp_path):
    """(timm's model, our preset): with and without LayerScale."""
    model = drawn(GlobalContextVit(img_size=64, layer_scale=request.param, **SHRUNK))
    arch = {key: list(value) if isinstance(value, tuple) else value for key, value in SHRUNK.items()}
    changes = {"init_values": 1e-5} if request.param else {}
    return model, preset(tmp_path, family="gcvit", **arch, **changes)


def test_both_layouts(shrunk, tmp_path):
    model, tiny = shrunk
    x = images(3, 64)
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    official = save_nvlabs(model, tmp_path / "official.pth.tar")
    expected = exact(model, x)
    for path, layout in ((tmp_path / "timm.pth", "timm (GCViT)"), (official, "official")):
        ours = pc.create_model(tiny, path)
        assert ours.load_report.layout == layout
        np.testing.assert_allclose(run(ours, x), expected, atol=1e-5)
    indices = [name for name in ours.load_report.left_out if name.endswith("relative_position_index")]
    assert len(indices) == 9 and ours.load_report.entry == "state_dict"
    assert "entry='state_dict_ema'" in ours.load_report.left_out["state_dict_ema"]


def test_batch_of_one_equals_batch_of_eight(shrunk, tmp_path):
    """Each image's global queries belong to its own windows; timm before 1.0.31 mixed them up."""
    model, tiny = shrunk
    ours = pc.create_model(tiny, save_nvlabs(model, tmp_path / "official.pth.tar"))
    x = images(8, 64)
    expected = exact(model, x)
    np.testing.assert_allclose(run(ours, x), expected, atol=1e-5)
    for i in range(8):
        np.testing.assert_allclose(run(ours, x[i : i + 1])[0], expected[i], atol=1e-5)


def test_block_by_block(shrunk, tmp_path):
    model, tiny = shrunk
    ours = pc.create_model(tiny, save_nvlabs(model, tmp_path / "official.pth.tar"))
    found, expected = {}, {}
    for name, layer in ours.named_sublayers():
        if re.fullmatch(r"levels\.\d\.blocks\.\d(\.attn)?", name):
            layer.register_forward_post_hook(lambda layer, args, out, n=name: found.__setitem__(n, out.numpy()))
    for name, module in model.double().named_modules():
        if re.fullmatch(r"stages\.\d\.blocks\.\d(\.attn)?", name):
            ours_name = name.replace("stages", "levels")
            module.register_forward_hook(lambda m, args, out, n=ours_name: expected.__setitem__(n, out.numpy()))
    run(ours, images(2, 64))
    exact(model, images(2, 64))
    assert found.keys() == expected.keys() and len(found) == 18
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("size", [(96, 96), (64, 128), (160, 96)])
def test_windows_follow_the_image(shrunk, tmp_path, size):
    """timm built for the same size, with tables resampled by PyTorch."""
    model, tiny = shrunk
    ours = pc.create_model(tiny, save_nvlabs(model, tmp_path / "official.pth.tar"), img_size=size)
    scale = model.stages[0].blocks[0].ls1.__class__.__name__ == "LayerScale"
    other = GlobalContextVit(img_size=size, layer_scale=1e-5 if scale else None, **SHRUNK)
    state = dict(model.state_dict())
    for name, value in other.state_dict().items():
        if name.endswith("relative_position_bias_table"):
            table = state[name].double()
            old, window = int(len(table) ** 0.5), ours.levels[int(name.split(".")[1])].windows.window
            new = tuple(2 * side - 1 for side in window)
            image = table.reshape(1, old, old, -1).permute(0, 3, 1, 2)
            image = torch.nn.functional.interpolate(image, size=new, mode="bicubic", align_corners=False)
            state[name] = image.permute(0, 2, 3, 1).reshape(value.shape)
    other = other.double().eval()
    other.load_state_dict({name: value.double() for name, value in state.items()})
    x = np.random.RandomState(0).standard_normal((2, 3, *size)).astype("float32")
    np.testing.assert_allclose(run(ours, x), exact(other, x), atol=1e-5)


def test_the_four_maps(shrunk, tmp_path):
    model, tiny = shrunk
    ours = pc.create_model(tiny, save_nvlabs(model, tmp_path / "official.pth.tar"), features_only=True)
    assert ours.feature_channels == (32, 64, 128, 256) and ours.feature_strides == (4, 8, 16, 32)
    x = images(2, 64)
    with torch.no_grad():
        expected = model.double().forward_intermediates(torch.from_numpy(x).double(), intermediates_only=True)
    ours.eval()
    with paddle.no_grad():
        found = ours(paddle.to_tensor(x))
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", NAMES[:2] + [pytest.param(name, marks=pytest.mark.slow) for name in NAMES[2:]])
def test_logits_at_full_size(name, tmp_path):
    model = drawn(timm.create_model(name))
    path = save_nvlabs(model, tmp_path / "official.pth.tar")
    x = images(2, 224)
    expected = exact(model, x)
    found = run(pc.create_model(name, path), x)
    difference = np.abs(found - expected).max()
    print(f"{name}: max |difference| {difference:.2e}, |logits| up to {np.abs(expected).max():.2f}")
    assert 0.3 < expected.std() < 3
    assert difference < 1e-5
