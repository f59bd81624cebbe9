"""Every family at each of its patch sizes: native and another size, a batch of eight and its images alone, in timm."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
pytest.importorskip("timm", reason="the oracle is timm: make oracles")
pytest.importorskip("scipy", reason="an oracle of the position rules: make oracles")

from google_npz import draw_google, google_shapes  # noqa: E402
from helpers import draw_state, images, npz, preset, run  # noqa: E402
from test_position_tables import interpolated, ndimage  # noqa: E402
from timm.models.deit import VisionTransformerDistilled  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

import paddle_cait as pc  # noqa: E402
from paddle_cait.presets import list_presets  # noqa: E402

DIM, DEPTH, HEADS, RATIO, OLD, NEW = 40, 3, 5, 3.0, 3, 5
# family -> (its own options of timm's class, its rule for other sizes)
FAMILIES = {
    "vit": ({"num_classes": 7}, "google"),
    "deit": ({"num_classes": 7}, "deit"),
    "deit_distilled": ({"num_classes": 7}, "deit"),
    "deit3": ({"num_classes": 7, "no_embed_class": True, "init_values": 1e-4}, "deit"),
    "dino": ({"num_classes": 0}, "dino"),
    "dinov2": ({"num_classes": 0, "init_values": 1.0}, "dino"),
    "dinov2_reg": ({"num_classes": 0, "init_values": 1.0, "reg_tokens": 4, "no_embed_class": True}, "timm"),
}
PRESETS = [p for p in list_presets() if p.family in ("vit", "deit", "deit3", "dino", "dinov2")]
CASES = sorted({(p.family, p.arch["patch_size"]) for p in PRESETS})
CASES += [("deit_distilled", 16), ("dinov2_reg", 14)]


def oracle(kind, patch, side):
    options = dict(FAMILIES[kind][0], embed_dim=DIM, depth=DEPTH, num_heads=HEADS, mlp_ratio=RATIO, patch_size=patch)
    make = VisionTransformerDistilled if kind == "deit_distilled" else VisionTransformer
    return make(img_size=side * patch, **options).eval()


def resampled(rule, table, prefix):
    """The rules restated: by scipy for Google's, by PyTorch for the others."""
    old = table[:, prefix:].numpy()
    if rule == "google":
        zoom = (NEW / OLD, NEW / OLD, 1)
        new = ndimage.zoom(old[0].reshape(OLD, OLD, -1), zoom, order=1).reshape(1, NEW * NEW, -1)
    else:
        options = {"size": (NEW, NEW), "mode": "bicubic", "antialias": rule == "timm"}
        if rule == "dino":
            options = {"scale_factor": ((NEW + 0.1) / OLD,) * 2, "mode": "bicubic"}
        new = interpolated(old, side=OLD, **options)
    return torch.cat([table[:, :prefix].double(), torch.from_numpy(np.asarray(new)).double()], dim=1)


def official_file(kind, patch, model, path):
    """Our preset and the authors' file of the oracle's weights."""
    family = kind.partition("_")[0]
    changes = {"deit_distilled": {"distilled": True}, "dinov2_reg": {"num_register_tokens": 4}}.get(kind, {})
    tiny = preset(path, kind, family, patch_size=patch, img_size=OLD * patch, **changes)
    if family == "vit":
        file = npz(path / "google.npz", draw_google(google_shapes(tiny.arch)))
        model.load_pretrained(str(file))
        return tiny, file
    drawn = draw_state({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in drawn.items()})
    if kind == "deit3":
        drawn = {name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): v for name, v in drawn.items()}
    return tiny, npz(path / "official.npz", drawn)


def check(found, model, x):
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(x).double()).numpy()
    assert expected.std() > 0.3
    np.testing.assert_allclose(run(found, x), expected, atol=1e-5)
    for i in range(len(x)):
        np.testing.assert_allclose(run(found, x[i : i + 1])[0], expected[i], atol=1e-5)


@pytest.mark.parametrize(("kind", "patch"), CASES)
def test_native_and_another_size(kind, patch, tmp_path):
    model, other = oracle(kind, patch, OLD), oracle(kind, patch, NEW)
    tiny, file = official_file(kind, patch, model, tmp_path)
    check(pc.create_model(tiny, file), model, images(8, OLD * patch))
    prefix = 0 if FAMILIES[kind][0].get("no_embed_class") else 2 if kind == "deit_distilled" else 1
    state = {name: value.double() for name, value in model.state_dict().items()}
    state["pos_embed"] = resampled(FAMILIES[kind][1], model.state_dict()["pos_embed"], prefix)
    other.double().load_state_dict(state)
    check(pc.create_model(tiny, file, img_size=NEW * patch), other, images(8, NEW * patch))
