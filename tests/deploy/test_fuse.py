"""Fused models compute what the models they come from compute: logits, features and maps, every family and form."""

import numpy as np
import paddle
import pytest
from helpers import draw_state, images, npz, official_shapes, preset

import paddle_cait as pc
from paddle_cait.deploy.fuse import OUTPUTS, TARGETS, fuse
from paddle_cait.deploy.fused_cait import chain
from paddle_cait.models.cait import CaiT

# name -> (family, changes of the shrunk model), to reach every branch
KINDS = {
    "cait": ("cait", {}),
    "cait_8_heads": ("cait", {"embed_dim": 64, "num_heads": 8}),
    "vit": ("vit", {"representation_size": 24}),
    "vit_tanh": ("vit", {"act": "gelu_tanh"}),
    "vit_hybrid": ("vit_hybrid", {}),
    "vit_hybrid_stem": ("vit_hybrid", {"backbone_layers": [], "constants": "timm"}),
    "vit_one_block": ("vit", {"depth": 1}),
    "deit": ("deit", {}),
    "deit_distilled": ("deit", {"distilled": True}),
    "deit_without_head_dist": ("deit", {"distilled": True, "head_dist": False}),
    "deit3": ("deit3", {}),
    "dino": ("dino", {}),
    "dinov2": ("dinov2", {}),
    "dinov2_reg": ("dinov2", {"num_register_tokens": 4}),
    "dinov2_swiglu": ("dinov2", {"num_register_tokens": 2, "ffn": "swiglu", "resample": "dino"}),
    "gcvit": ("gcvit", {}),
    "gcvit_padded": ("gcvit", {"img_size": 72}),
    "gcvit_scaled": ("gcvit", {"init_values": 1e-5}),
    "gcvit_no_shared_query": ("gcvit", {"depths": [1, 2, 1, 2]}),
}


# the target makes a difference for CaiT alone
KINDS_AND_TARGETS = [(kind, target) for kind in KINDS for target in TARGETS if target == "paddle" or "cait" in kind]


def built(tmp_path, kind, **overrides):
    family, changes = KINDS[kind]
    tiny = preset(tmp_path, kind, family, **changes)
    state = draw_state(official_shapes(tiny))
    if family == "dinov2":
        state["mask_token"] = np.ones((1, 40), "float32")
    model = pc.create_model(tiny, weights=npz(tmp_path / "drawn.npz", state), **overrides)
    model.eval()
    return model


def last_attention(model):
    """The layer whose map is the output ``attention``."""
    if isinstance(model, CaiT):
        return model.blocks_token_only[-1].attn
    return (model.levels[-1] if hasattr(model, "levels") else model).blocks[-1].attn


def expected(model, x):
    """What the model itself computes: logits, features, and the last attention layer's maps."""
    attn, seen = last_attention(model), []
    own = attn.attention
    attn.attention = lambda *args: seen.append(own(*args)) or seen[-1]
    with paddle.no_grad():
        logits = model(x)
        features = model.forward_features(x)
    del attn.attention
    return logits.numpy(), features.numpy(), seen[0].numpy()


def close(found, wanted, atol=1e-5):
    assert np.abs(wanted).max() > 0.3 or wanted.min() >= 0
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=atol, rtol=0)


@pytest.mark.parametrize(("kind", "target"), KINDS_AND_TARGETS)
def test_all_outputs(tmp_path, kind, target):
    model = built(tmp_path, kind)
    x = paddle.to_tensor(images(3, model.img_size[0]))
    logits, features, maps = expected(model, x)
    fused = fuse(model, target, outputs=OUTPUTS)
    with paddle.no_grad():
        found = [output.numpy() for output in fused(x)]
        close(fuse(model, target)(x).numpy(), logits)
    close(found[0], logits)
    close(found[1], features)
    powers = np.exp(logits.astype("float64") - logits.max(1, keepdims=True))
    close(found[3], (powers / powers.sum(1, keepdims=True)).astype("float32"), 1e-6)
    close(found[2], maps[:, :, : found[2].shape[2]])
    assert found[2].shape[2] == (2 if kind == "deit_distilled" else 1 if "gcvit" not in kind else maps.shape[2])


@pytest.mark.parametrize("kind", ["cait", "vit", "vit_hybrid", "deit3", "dinov2_reg", "gcvit_padded"])
def test_pixels_as_input(tmp_path, kind):
    model = built(tmp_path, kind)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *model.img_size, 3), np.uint8)
    own = model.preset.preprocess
    x = ((pixels / 255 - own.mean) / own.std).transpose(0, 3, 1, 2).astype("float32")
    with paddle.no_grad():
        found = fuse(model, uint8_input=True)(paddle.to_tensor(pixels)).numpy()
        close(found, model(paddle.to_tensor(x)).numpy())


def test_pixels_need_a_preset():
    with pytest.raises(pc.PaddleCaitError, match="its preset says mean and deviation"):
        fuse(CaiT(32, embed_dim=32, depth=1), uint8_input=True)


@pytest.mark.parametrize("kind", ["cait", "deit_distilled", "gcvit"])
def test_without_a_classifier(tmp_path, kind):
    model = built(tmp_path, kind, num_classes=0)
    x = paddle.to_tensor(images(2, model.img_size[0]))
    with paddle.no_grad():
        close(fuse(model)(x).numpy(), model(x).numpy())


def test_the_model_is_left_as_it_is(tmp_path):
    model = built(tmp_path, "vit")
    x = paddle.to_tensor(images(1, model.img_size[0]))
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    model.train()
    fused = fuse(model)
    assert model.training and not fused.training
    wanted = fused(x).numpy()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
        value.set_value(paddle.zeros_like(value))
    np.testing.assert_array_equal(fused(x).numpy(), wanted)  # nothing is shared
    assert (fused.preset, fused.load_report) == (model.preset, model.load_report)
    assert (fused.num_classes, fused.img_size) == (model.num_classes, model.img_size)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("cait", "onnxruntime"),
        ("cait", "openvino"),
        *((kind, "paddle") for kind in ("deit_distilled", "vit_hybrid", "dinov2_swiglu", "gcvit_padded")),
    ],
)
def test_one_static_graph_for_every_batch(tmp_path, kind, target):
    fused = fuse(built(tmp_path, kind), target)
    spec = [paddle.static.InputSpec(fused.input_shape, name="x")]
    static = paddle.jit.to_static(fuse(built(tmp_path, kind), target), input_spec=spec, full_graph=True)
    for batch in (1, 3):
        x = paddle.to_tensor(images(batch, fused.img_size[0]))
        with paddle.no_grad():
            np.testing.assert_allclose(static(x).numpy(), fused(x).numpy(), atol=1e-6, rtol=0)


def test_a_chain_is_a_weighted_sum():
    maps = [paddle.to_tensor(images(1, 4, 4)[:, :1] + h) for h in range(4)]
    for weights in ([0.3, -2.0, 1e-9, 4.0], [0.0, 1.0, 0.0, 0.0], [0.0] * 4, [1e-30, 1.0, 0.0, -1e20]):
        wanted = sum(w * m.numpy().astype("float64") for w, m in zip(weights, maps))
        found = chain(maps, np.array(weights)).numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"target": "tensorrt"}, "target is 'tensorrt', expected one of paddle, onnxruntime, openvino"),
        ({"outputs": ()}, "outputs are"),
        ({"outputs": ("logits", "logits")}, "each once"),
        ({"outputs": ("tokens",)}, "expected some of logits, features, attention, probabilities"),
        ({"form": "conv"}, "form is 'conv', expected matmul or chain"),
    ],
)
def test_bad_requests(tmp_path, asked, message):
    with pytest.raises(pc.PaddleCaitError, match=message):
        fuse(built(tmp_path, "cait"), **asked)


def test_what_cannot_be_fused(tmp_path):
    with pytest.raises(pc.PaddleCaitError, match="Linear cannot be fused"):
        fuse(paddle.nn.Linear(2, 2))
    model = built(tmp_path, "vit")
    model.blocks[1].__class__ = type("ParallelBlock", (type(model.blocks[1]),), {})
    with pytest.raises(pc.PaddleCaitError, match="ParallelBlock cannot be fused"):
        fuse(model)
    with pytest.raises(pc.PaddleCaitError, match="GCViT cannot be fused"):
        fuse(built(tmp_path, "gcvit", features_only=True))


def test_an_image_of_another_size(tmp_path):
    fused = fuse(built(tmp_path, "vit"))
    height, width = fused.img_size
    with pytest.raises(pc.PaddleCaitError, match=rf"expected \['batch', 3, {height}, {width}\]"):
        fused(paddle.zeros([1, 3, height, width + 16]))
