"""The ViT line without other frameworks: what the authors' code computed, batches, sizes, gradients, static graphs."""

import numpy as np
import paddle
import pytest
from google_npz import NUMBERINGS, draw_google, google_shapes
from helpers import GOLDEN, draw_state, images, npz, official_shapes, preset, run
from make_flax import CASES

import paddle_cait as pc

AUTHORS = np.load(GOLDEN / "authors.npz")
FLAX = np.load(GOLDEN / "flax.npz")
# family -> what it adds, to reach every branch of its class
KINDS = {
    "vit": ("vit", {"representation_size": 24}),
    "vit_hybrid": ("vit_hybrid", {}),
    "deit": ("deit", {}),
    "deit_distilled": ("deit", {"distilled": True}),
    "deit3": ("deit3", {}),
    "dino": ("dino", {}),
    "dinov2": ("dinov2", {}),
    "dinov2_reg": ("dinov2", {"num_register_tokens": 4}),
    "dinov2_swiglu": ("dinov2", {"num_register_tokens": 2, "ffn": "swiglu", "resample": "dino"}),
}


def drawn(tmp_path, kind):
    """(preset, file in the official layout) of a shrunk model with drawn weights."""
    family, changes = KINDS[kind]
    tiny = preset(tmp_path, kind, family, **changes)
    state = draw_state(official_shapes(tiny))
    if family == "dinov2":
        state["mask_token"] = np.ones((1, 40), "float32")
    return tiny, npz(tmp_path / "drawn.npz", state)


@pytest.fixture(params=KINDS)
def case(request, tmp_path):
    return drawn(tmp_path, request.param)


def tokens(model, x):
    model.eval()
    with paddle.no_grad():
        return model.forward_tokens(paddle.to_tensor(x)).numpy()


def close(found, expected, atol=1e-5):
    assert np.abs(expected).max() > 0.5  # of the size that the bound is meant for
    np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("numbering", "prefix"), [("released", ""), ("released", "opt/target/"), ("linen", "params/")])
def test_googles_flax_code(tmp_path, name, numbering, prefix):
    arch = {"act": "gelu_tanh", **CASES[name]}
    family = "vit_hybrid" if "backbone_layers" in arch else "vit"
    tiny = preset(tmp_path, name, family, **({**arch, "constants": "flax"} if family == "vit_hybrid" else arch))
    arrays = draw_google(google_shapes(tiny.arch, numbering))
    assert any(key.split("/")[-3:-2] == [NUMBERINGS[numbering][1]] for key in arrays)
    model = pc.create_model(tiny, npz(tmp_path / "google.npz", {prefix + key: v for key, v in arrays.items()}))
    assert model.load_report.layout.startswith("google") and not model.load_report.left_out
    close(run(model, images(3, tiny.arch["img_size"])), FLAX[name])


def test_the_constants_and_the_gelu_form_matter(tmp_path):
    """Each variant is away from Google's result by more than the bound that the right one keeps."""
    right = {"act": "gelu_tanh", "constants": "flax"}
    for wrong in ({"act": "gelu"}, {"constants": "timm"}):
        tiny = preset(tmp_path, "wrong", "vit_hybrid", **{**CASES["hybrid"], **right, **wrong})
        path = npz(tmp_path / "google.npz", draw_google(google_shapes(tiny.arch)))
        assert np.abs(run(pc.create_model(tiny, path), images(3, 48)) - FLAX["hybrid"]).max() > 2e-5, wrong


def test_distilled_deit(tmp_path):
    model = pc.create_model(*drawn(tmp_path, "deit_distilled"))
    close(run(model, images(3, 48)), AUTHORS["deit_distilled/logits"])
    model.train()
    pair = model(paddle.to_tensor(images(3, 48)))
    assert isinstance(pair, tuple)
    close(np.stack([logits.numpy() for logits in pair]), AUTHORS["deit_distilled/pair"])


def test_deit3(tmp_path):
    close(run(pc.create_model(*drawn(tmp_path, "deit3")), images(3, 48)), AUTHORS["deit3/logits"])


@pytest.mark.parametrize("size", [48, 32, 64, 112])
def test_dino_at_every_size(tmp_path, size):
    model = pc.create_model(*drawn(tmp_path, "dino"), img_size=size)
    close(run(model, images(3, size)), AUTHORS[f"dino/{size}"])


def test_dinos_intermediate_layers(tmp_path):
    model = pc.create_model(*drawn(tmp_path, "dino"))
    model.eval()
    with paddle.no_grad():
        layers = model.get_intermediate_layers(paddle.to_tensor(images(3, 48)), 2)
    for i, layer in enumerate(layers):
        close(layer.numpy(), AUTHORS[f"dino/layer{i}"])
    with pytest.raises(pc.PaddleCaitError, match="n is 4, expected 1 to 3"):
        model.get_intermediate_layers(paddle.to_tensor(images(1, 48)), 4)


@pytest.mark.parametrize("size", [48, 32, 64, 112])
@pytest.mark.parametrize("kind", ["dinov2", "dinov2_reg", "dinov2_swiglu"])
def test_dinov2_at_every_size(tmp_path, kind, size):
    model = pc.create_model(*drawn(tmp_path, kind), img_size=size)
    found = tokens(model, images(3, size))
    close(found, AUTHORS[f"{kind}/{size}"])
    np.testing.assert_array_equal(run(model, images(3, size)), found[:, 0])
    assert model.load_report.left_out == {"mask_token": "serves DINOv2's pre-training alone"}


def test_the_wrong_rule_for_other_sizes_is_visible(tmp_path):
    tiny, path = drawn(tmp_path, "dino")
    for rule in ("deit", "timm", "timm_npz", "google"):
        model = pc.create_model(tiny, path, img_size=64, resample=rule)
        assert f"by the rule {rule!r}" in model.load_report.resized["pos_embed"]
        assert np.abs(run(model, images(3, 64)) - AUTHORS["dino/64"]).max() > 1e-3


def test_batch_of_one_equals_batch_of_eight(case):
    model = pc.create_model(*case)
    x = images(8, 48)
    together = run(model, x)
    for i in range(8):
        np.testing.assert_allclose(run(model, x[i : i + 1])[0], together[i], atol=2e-6)


def test_every_weight_matters(case):
    """The drawn weights would show a tensor that is loaded wrong: changing any one changes the result."""
    model = pc.create_model(*case)
    x = images(2, 48)
    before = run(model, x)
    for name, value in model.state_dict().items():
        original = value.numpy()
        value.set_value(np.roll(original, 1) + np.float32(0.1))
        changed = np.abs(run(model, x) - before).max()
        value.set_value(original)
        assert changed > 1e-5, name


def test_every_parameter_receives_a_gradient(case):
    model = pc.create_model(*case)
    model.train()
    out = model(paddle.to_tensor(images(2, 48)))
    sum(part.square().sum() for part in (out if isinstance(out, tuple) else (out,))).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not np.abs(p.grad.numpy()).max() > 0]
    assert not without


def test_gradient_checkpointing_changes_nothing(case):
    model = pc.create_model(*case)
    model.train()
    gradients = []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        out = model(paddle.to_tensor(images(2, 48)))
        sum(part.square().sum() for part in (out if isinstance(out, tuple) else (out,))).backward()
        gradients.append({name: p.grad.numpy() for name, p in model.named_parameters()})
        model.clear_gradients()
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], gradient, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_static_graph_takes_any_batch(case):
    model = pc.create_model(*case)
    model.eval()
    x = images(3, 48)
    expected = run(model, x)
    spec = [paddle.static.InputSpec([None, 3, 48, 48], "float32")]
    static = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
    with paddle.no_grad():
        np.testing.assert_allclose(static(paddle.to_tensor(x)).numpy(), expected, atol=2e-6)
        np.testing.assert_allclose(static(paddle.to_tensor(x[:1])).numpy(), expected[:1], atol=2e-6)


def test_another_number_of_classes(case):
    tiny, path = case
    model = pc.create_model(tiny, path, num_classes=4)
    assert run(model, images(2, 48)).shape == (2, 4)
    heads = {name for name in model.state_dict() if name.partition(".")[0] in ("head", "head_dist")}
    assert heads and heads == set(model.load_report.kept)
    features = pc.create_model(tiny, path, num_classes=0)
    assert run(features, images(2, 48)).shape == (2, 40)
    assert not features.load_report.kept


def test_a_rectangular_input(case):
    model = pc.create_model(*case, img_size=(48, 80))
    assert run(model, images(2, 80)[:, :, :48]).shape[0] == 2
    assert "3x3 positions resampled to 3x5" in model.load_report.resized["pos_embed"] or model.grid != (3, 5)


def test_an_input_of_another_size_is_refused(case):
    model = pc.create_model(case[0])
    with pytest.raises(pc.PaddleCaitError, match=r"input is \[1, 3, 64, 64\], expected \[batch, 3, 48, 48\]"):
        model(paddle.zeros([1, 3, 64, 64]))


def test_googles_head_is_dropped_with_its_representation_layer(tmp_path):
    """Fine-tuning from an ImageNet-21k file attaches a new classifier to the class token, as Google's code does."""
    tiny, path = drawn(tmp_path, "vit")
    model = pc.create_model(tiny, path, num_classes=4)
    assert "pre_logits.fc.weight" in model.load_report.left_out and not hasattr(model.pre_logits, "fc")
    kept = pc.create_model(tiny, path, num_classes=4, representation_size=24)
    assert kept.pre_logits.fc.weight.shape == [40, 24] and "pre_logits.fc.weight" in kept.load_report.loaded


def test_a_distilled_model_without_its_second_head(tmp_path):
    tiny, path = drawn(tmp_path, "deit_distilled")
    state = dict(np.load(path))
    single = {name: value for name, value in state.items() if not name.startswith("head_dist")}
    npz(tmp_path / "single.npz", single)
    with pytest.raises(pc.WeightsError, match=r"2 of the model's \d+ tensors are missing: head_dist"):
        pc.create_model(tiny, tmp_path / "single.npz")
    model = pc.create_model(tiny, tmp_path / "single.npz", head_dist=False)
    features = pc.create_model(tiny, path)
    x = paddle.to_tensor(images(2, 48))
    features.eval()
    with paddle.no_grad():
        expected = features.head(features.forward_features(x)[:, 0]).numpy()
    np.testing.assert_allclose(run(model, images(2, 48)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("vit", {"act": "relu"}, "act is 'relu', expected gelu or gelu_tanh"),
        ("vit", {"resample": "nearest"}, "resample is 'nearest', expected one of deit, dino"),
        ("vit", {"num_heads": 7}, "embed_dim 40 is no multiple of num_heads 7"),
        ("cait", {"num_heads": 7}, "embed_dim 40 is no multiple of num_heads 7"),
        ("gcvit", {"num_heads": [7, 2, 4, 8]}, "is no multiple of num_heads 7"),
        ("vit_hybrid", {"constants": "jax"}, "constants is 'jax', expected flax or timm"),
        ("vit_hybrid", {"img_size": 50}, "img_size is 50x50, expected multiples of the patch size 8"),
        ("dinov2", {"ffn": "moe"}, "ffn is 'moe', expected mlp or swiglu"),
    ],
)
def test_mistakes_in_an_architecture(tmp_path, family, changes, message):
    with pytest.raises(pc.PaddleCaitError, match=message):
        pc.create_model(preset(tmp_path, "wrong", family, **changes))
