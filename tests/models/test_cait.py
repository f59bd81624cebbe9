"""CaiT without PyTorch: counts, stored oracle outputs, gradients, batches, other sizes, static graphs."""

import numpy as np
import paddle
import pytest
from helpers import GOLDEN, draw_state, images, npz, official_shapes, preset, run

import paddle_cait as pc
from paddle_cait.models.cait import CaiT, mix_heads
from paddle_cait.presets import list_presets


@pytest.fixture
def drawn(tmp_path):
    """A shrunk preset and a file with drawn weights in the official layout."""
    tiny = preset(tmp_path)
    return tiny, npz(tmp_path / "drawn.npz", draw_state(official_shapes(tiny)))


@pytest.mark.parametrize("chosen", list_presets(), ids=lambda p: p.full_name)
def test_every_preset_has_its_exact_parameter_count(chosen):
    with paddle.LazyGuard():
        model = pc.create_model(chosen)
    assert sum(int(np.prod(p.shape)) for p in model.parameters()) == chosen.num_params


def test_blocks_and_logits_equal_timms_stored_ones(drawn):
    golden = np.load(GOLDEN / "cait.npz")
    model = pc.create_model(drawn[0], drawn[1])
    outputs = {}
    for name, layer in model.named_sublayers():
        if name.split(".")[0] in ("blocks", "blocks_token_only") and name.count(".") == 1:
            layer.register_forward_post_hook(lambda layer, args, out, name=name: outputs.__setitem__(name, out.numpy()))
    x = images(4, 48)
    outputs["logits"] = run(model, x)
    with paddle.no_grad():
        outputs["features"] = model.forward_features(paddle.to_tensor(x)).numpy()
    assert set(outputs) == set(golden.files)
    for name in golden.files:
        np.testing.assert_allclose(outputs[name], golden[name], atol=1e-5, rtol=0, err_msg=name)


def test_every_weight_matters(drawn):
    """The drawn weights would show a tensor that is loaded wrong: changing any one changes the logits."""
    model = pc.create_model(*drawn)
    x = images(2, 48)
    before = run(model, x)
    cancelled = [name for name in model.state_dict() if name.endswith(("attn.proj_l.bias", "attn.k.bias"))]
    for name, value in model.state_dict().items():
        original = value.numpy()
        value.set_value(np.roll(original, 1) + np.float32(0.1))
        changed = np.abs(run(model, x) - before).max()
        value.set_value(original)
        assert (changed < 1e-5) == (name in cancelled), name


def test_batch_of_one_equals_batch_of_eight(drawn):
    model = pc.create_model(*drawn)
    x = images(8, 48)
    together = run(model, x)
    for i in range(8):
        np.testing.assert_allclose(run(model, x[i : i + 1])[0], together[i], atol=1e-6)


def test_features_without_a_classifier(drawn):
    model = pc.create_model(*drawn, num_classes=0)
    features = run(model, images(2, 48))
    assert features.shape == (2, 40)
    full = pc.create_model(*drawn)
    full.eval()
    with paddle.no_grad():
        np.testing.assert_array_equal(features, full.forward_features(paddle.to_tensor(images(2, 48))).numpy())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_parameter_receives_a_gradient(drawn, checkpointing):
    model = pc.create_model(*drawn)
    model.train()
    model.set_grad_checkpointing(checkpointing)
    model(paddle.to_tensor(images(2, 48))).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        largest = float(parameter.grad.abs().max())
        cancelled = name.endswith(("attn.proj_l.bias", "attn.k.bias"))  # the softmax cancels these two
        assert (largest < 1e-5) if cancelled else (largest > 1e-7), f"{name}: {largest}"


def test_gradient_checkpointing_changes_nothing(drawn):
    gradients = []
    for enable in (False, True):
        model = pc.create_model(*drawn)
        model.train()
        model.set_grad_checkpointing(enable)
        model(paddle.to_tensor(images(2, 48))).square().sum().backward()
        gradients.append({n: p.grad.numpy() for n, p in model.named_parameters()})
    for name in gradients[0]:
        np.testing.assert_allclose(gradients[1][name], gradients[0][name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_training_and_evaluation_compute_the_same_without_dropout(drawn):
    model = pc.create_model(*drawn)
    x = images(2, 48)
    expected = run(model, x)
    model.train()
    np.testing.assert_allclose(model(paddle.to_tensor(x)).numpy(), expected, atol=1e-5)


def test_stochastic_depth_drops_whole_samples():
    from paddle_cait.layers.drop_path import DropPath

    paddle.seed(0)
    layer = DropPath(0.25)
    layer.train()
    out = layer(paddle.ones([4000, 3, 2])).numpy()
    values = out[:, 0, 0]
    assert (out == values[:, None, None]).all()
    assert set(np.unique(values)) == {0.0, np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 0.03
    layer.eval()
    assert (layer(paddle.ones([5, 3, 2])).numpy() == 1).all()


def test_mixing_heads_is_a_linear_over_heads():
    rng = np.random.RandomState(0)
    maps, weight = rng.randn(2, 3, 4, 5).astype("float32"), rng.randn(3, 3).astype("float32")
    mixed = mix_heads(paddle.to_tensor(maps), paddle.to_tensor(weight)).numpy()
    np.testing.assert_allclose(mixed, np.einsum("bhnm,hg->bgnm", maps, weight), atol=1e-5)


def test_initial_weights_are_the_authors():
    paddle.seed(0)
    model = CaiT(img_size=64, embed_dim=96, depth=2, num_heads=4, init_values=1e-6)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, value in state.items():
        if "gamma" in name:
            assert (value == np.float32(1e-6)).all(), name
        elif name.startswith("patch_embed"):
            bound = (3 * 16 * 16) ** -0.5
            assert np.abs(value).max() <= bound and np.abs(value).max() > 0.8 * bound, name
        elif "norm" in name:
            assert (value == (1 if name.endswith("weight") else 0)).all(), name
        elif name.endswith("bias"):
            assert (value == 0).all(), name
        elif value.size > 1000:
            assert abs(value.std() - 0.02) < 0.002 and abs(value.mean()) < 0.002, name


def test_a_static_graph_takes_any_batch(drawn, tmp_path):
    model = pc.create_model(*drawn)
    model.eval()
    spec = [paddle.static.InputSpec([None, 3, 48, 48], "float32")]
    paddle.jit.save(paddle.jit.to_static(model, input_spec=spec, full_graph=True), str(tmp_path / "static"))
    loaded = paddle.jit.load(str(tmp_path / "static"))
    loaded.eval()
    reference = pc.create_model(*drawn)
    for batch in (1, 3, 8):
        x = images(batch, 48, seed=batch)
        np.testing.assert_allclose(run(loaded, x), run(reference, x), atol=1e-5)


def test_wrong_inputs_get_one_clear_line(drawn, tmp_path):
    model = pc.create_model(*drawn)
    with pytest.raises(pc.PaddleCaitError, match=r"input is \[1, 3, 64, 64\], expected \[batch, 3, 48, 48\]"):
        model(paddle.zeros([1, 3, 64, 64]))
    with pytest.raises(pc.PaddleCaitError, match="img_size is 50x50, expected multiples of the patch size 16"):
        pc.create_model(drawn[0], img_size=50)
    with pytest.raises(pc.PaddleCaitError, match="drop path rate is 1.5, expected 0 <= rate < 1"):
        pc.create_model(drawn[0], drop_path_rate=1.5)
    with pytest.raises(pc.PaddleCaitError, match="tiny.drawn: .*depht"):
        pc.create_model(drawn[0], depht=2)


def test_a_rectangular_input(drawn):
    model = pc.create_model(*drawn, img_size=(48, 80))
    assert run(model, np.zeros((1, 3, 48, 80), "float32")).shape == (1, 7)
    assert model.load_report.resized == {"pos_embed": "3x3 positions resampled to 3x5 by the rule 'deit'"}
