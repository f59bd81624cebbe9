"""The ViT line against timm and transformers, through the real loader and the files their users hold.

Weights are drawn so that a mistake shows; the oracles compute in float64, this package in float32.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
timm = pytest.importorskip("timm", reason="the oracle is timm: make oracles")

from google_npz import draw_google, google_shapes  # noqa: E402
from helpers import draw_state, images, npz, preset, run  # noqa: E402
from torch import nn  # noqa: E402

import paddle_cait as pc  # noqa: E402
from paddle_cait.presets import list_presets  # noqa: E402

FAMILIES = ("deit", "deit3", "dino", "dinov2", "vit", "vit_hybrid")
# One preset of every architecture (name and whatever of arch the tags change).
PRESETS = {
    (p.name, p.num_classes, p.arch.get("act"), p.arch.get("constants")): p
    for p in list_presets()
    if p.family in FAMILIES
}


def oracle(chosen, **changes):
    """timm's model of a preset; other GELU forms and group norm constants are keywords of its own."""
    names = {"dino": "vit_{}_patch{}_224.dino", "dinov2": "vit_{}_patch14_{}dinov2.lvd142m"}
    options = {"num_classes": chosen.num_classes, **changes}
    if chosen.family in names:
        size = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1536: "giant"}[chosen.arch["embed_dim"]]
        registers = "reg4_" if chosen.arch.get("num_register_tokens") else ""
        which = registers if chosen.family == "dinov2" else chosen.arch["patch_size"]
        name = names[chosen.family].format(size, which)
    else:
        name = chosen.name
    if not timm.is_model(name.partition(".")[0]):  # B/8 at 384 has no entry of its own
        name, options["img_size"] = name.replace("384", "224"), chosen.arch["img_size"]
    if chosen.arch.get("act") == "gelu_tanh":
        options["act_layer"] = "gelu_tanh"
    return timm.create_model(name, **options).eval()


def load_drawn(model, seed=0):
    state = draw_state({name: tuple(value.shape) for name, value in model.state_dict().items()}, seed)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model


def as_official(chosen, model):
    """timm's names back to the authors': what their files hold."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    if chosen.family == "deit3":
        state = {name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): v for name, v in state.items()}
    return state


def exact(model, x):
    with torch.no_grad():
        return model.double()(torch.from_numpy(x).double()).numpy()


def close(found, expected, what):
    difference = np.abs(found - expected).max()
    print(f"{what}: max |difference| {difference:.2e}, |outputs| up to {np.abs(expected).max():.2f}")
    assert 0.3 < expected.std() < 3  # of the size that the bound is meant for
    assert difference < 1e-5


def google_file(chosen, path):
    return npz(path, draw_google(google_shapes(chosen.arch)))


def with_representation(model, chosen, arrays):
    """timm dropped the layer before the 21k head; PyTorch's own Linear and tanh stand in for it."""
    layer = nn.Linear(chosen.arch["embed_dim"], chosen.arch["representation_size"])
    layer.weight.data = torch.from_numpy(arrays["pre_logits/kernel"].T.copy())
    layer.bias.data = torch.from_numpy(arrays["pre_logits/bias"])
    model.fc_norm = nn.Sequential(layer, nn.Tanh())
    return model


def with_flax_constants(model):
    """timm's own layers at Google's epsilons: group norm's, and the one added to the standard deviation."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.eps = 1e-6
        if type(module).__name__ == "StdConv2dSame":
            weight = module.weight.data.double()
            deviation, mean = torch.std_mean(weight, (1, 2, 3), correction=0, keepdim=True)
            module.weight.data = (weight - mean) / (deviation + 1e-5)
            module.forward = lambda x, m=module: nn.functional.conv2d(same(x, m), m.weight, stride=m.stride)
    return model


def same(x, module):
    from timm.layers import pad_same

    return pad_same(x, module.kernel_size, module.stride, module.dilation)


def check(chosen, tmp_path):
    size = chosen.arch["img_size"]
    if chosen.family in ("vit", "vit_hybrid"):
        path = google_file(chosen, tmp_path / "google.npz")
        model = oracle(chosen)
        model.load_pretrained(str(path))
        if chosen.arch.get("representation_size"):
            model = with_representation(model, chosen, np.load(path))
        if chosen.arch.get("constants") == "flax":
            model = with_flax_constants(model.double())
    else:
        model = load_drawn(oracle(chosen))
        path = tmp_path / "official.pth"
        state = {name: torch.from_numpy(value) for name, value in as_official(chosen, model).items()}
        torch.save({"model": state} if chosen.family.startswith("deit") else state, path)
    x = images(1, size)
    expected = exact(model, x)
    del model
    close(run(pc.create_model(chosen, path), x), expected, f"{chosen.full_name} at {size}")


QUICK = {
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_384",
    "dino_vits8",
    "dinov2_vits14",
    "dinov2_vits14_reg",
}
QUICK |= {"vit_tiny_patch16_224", "vit_small_patch32_224", "vit_base_patch8_224", "vit_small_r26_s32_224"}
QUICK |= {"vit_tiny_r_s16_p8_224", "vit_base_r50_s16_384", "vit_base_patch32_224"}


@pytest.mark.parametrize("chosen", [p for p in PRESETS.values() if p.name in QUICK], ids=lambda p: p.full_name)
def test_full_size(chosen, tmp_path):
    check(chosen, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [p for p in PRESETS.values() if p.name not in QUICK], ids=lambda p: p.full_name)
def test_full_size_of_all_the_others(chosen, tmp_path):
    check(chosen, tmp_path)


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", 160), ("vit_tiny_r_s16_p8_224", 288)])
def test_googles_file_at_another_size_in_timm(name, size, tmp_path):
    """timm resamples an .npz bilinearly: the rule `timm_npz`."""
    chosen = pc.get_preset(name)
    path = google_file(chosen, tmp_path / "google.npz")
    model = oracle(chosen, img_size=size)
    model.load_pretrained(str(path))
    x = images(2, size)
    found = run(pc.create_model(chosen, path, img_size=size, resample="timm_npz"), x)
    close(found, exact(model, x), f"{name} at {size}")


def test_an_npz_comes_back_as_timms_file(tmp_path):
    """Google's file -> ours -> PyTorch's orientation under timm's names, which timm takes as its own."""
    chosen = preset(tmp_path, family="vit_hybrid")
    path = npz(tmp_path / "google.npz", draw_google(google_shapes(chosen.arch)))
    pc.convert(path, tmp_path / "ours.pdparams", model=chosen)
    pc.convert(tmp_path / "ours.pdparams", tmp_path / "timm.safetensors", model=chosen, layout="official")
    pc.convert(path, tmp_path / "direct.safetensors", model=chosen, layout="official")
    assert (tmp_path / "timm.safetensors").read_bytes() == (tmp_path / "direct.safetensors").read_bytes()
    full = pc.get_preset("vit_tiny_r_s16_p8_224")
    pc.convert(google_file(full, tmp_path / "g.npz"), tmp_path / "full.safetensors", model=full, layout="official")
    one, two = oracle(full), oracle(full)
    one.load_pretrained(str(tmp_path / "g.npz"))
    from safetensors.torch import load_file

    two.load_state_dict(load_file(tmp_path / "full.safetensors"))
    for name, value in one.state_dict().items():
        assert torch.equal(two.state_dict()[name], value), name
