"""GCViT without other frameworks: batches, any size, gradients, static graphs, what padding may not do."""

import numpy as np
import paddle
import pytest
from helpers import draw_state, images, npz, official_shapes, preset, run

import paddle_cait as pc
from paddle_cait.models.gcvit import Windows


@pytest.fixture(params=[{}, {"init_values": 1e-5}])
def drawn(request, tmp_path):
    """A shrunk preset, with and without LayerScale, and a file with drawn weights in the official layout."""
    tiny = preset(tmp_path, family="gcvit", **request.param)
    state = draw_state(official_shapes(tiny))
    rng = np.random.RandomState(1)
    for name in state:
        if name.endswith("bias_table"):
            state[name] = rng.standard_normal(state[name].shape).astype("float32")
    return tiny, npz(tmp_path / "drawn.npz", state)


def pixels(batch, size):
    return np.random.RandomState(0).standard_normal((batch, 3, *size)).astype("float32")


def test_batch_of_one_equals_batch_of_eight(drawn):
    model = pc.create_model(*drawn)
    x = images(8, 64)
    together = run(model, x)
    assert np.abs(together[0] - together[1]).max() > 0.05  # images that differ give logits that differ
    for i in range(8):
        np.testing.assert_allclose(run(model, x[i : i + 1])[0], together[i], atol=2e-6)


def test_every_weight_matters(drawn):
    model = pc.create_model(*drawn)
    x = images(2, 64)
    before = run(model, x)
    for name, value in model.state_dict().items():
        original = value.numpy()
        value.set_value(np.roll(original, 1) + np.float32(0.3))
        changed = np.abs(run(model, x) - before).max()
        value.set_value(original)
        assert changed > 1e-6 or name.endswith("attn.qkv.bias"), name


# Paddle 3.3's own code for the backward pass of a static graph warns about itself.
@pytest.mark.filterwarnings("ignore:In transformed code:UserWarning", "ignore:Tensor do not have 'place':UserWarning")
@pytest.mark.parametrize("static", [False, True])
def test_every_parameter_receives_a_gradient(drawn, static):
    model = pc.create_model(*drawn)
    model.train()
    forward = model
    if static:
        spec = [paddle.static.InputSpec([None, 3, 64, 64], "float32")]
        forward = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
    forward(paddle.to_tensor(images(3, 64))).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not np.abs(p.grad.numpy()).max() > 0]
    assert not without


def test_gradient_checkpointing_changes_nothing(drawn):
    model = pc.create_model(*drawn)
    model.train()
    gradients = []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        model(paddle.to_tensor(images(2, 64))).square().sum().backward()
        gradients.append({name: p.grad.numpy() for name, p in model.named_parameters()})
        model.clear_gradients()
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], gradient, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("size", [(64, 64), (50, 75)])
def test_a_static_graph_takes_any_batch(drawn, size):
    model = pc.create_model(*drawn, img_size=size)
    model.eval()
    x = pixels(3, size)
    expected = run(model, x)
    spec = [paddle.static.InputSpec([None, 3, *size], "float32")]
    static = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
    with paddle.no_grad():
        np.testing.assert_allclose(static(paddle.to_tensor(x)).numpy(), expected, atol=2e-6)
        np.testing.assert_allclose(static(paddle.to_tensor(x[:1])).numpy(), expected[:1], atol=2e-6)


@pytest.mark.parametrize("size", [(32, 32), (96, 160), (50, 75), (33, 64), (70, 41)])
def test_any_size(drawn, size):
    """Maps round up, windows follow, the global query is one window, and nothing else changes."""
    model = pc.create_model(*drawn, img_size=size, features_only=True)
    model.eval()
    with paddle.no_grad():
        maps = model(paddle.to_tensor(pixels(2, size)))
    for found, channels, stride in zip(maps, model.feature_channels, model.feature_strides):
        assert found.shape == [2, channels, -(-size[0] // stride), -(-size[1] // stride)]
        assert np.isfinite(found.numpy()).all()
    for level in model.levels:
        query = level.q_global_gen(paddle.zeros([1, *level.windows.grid, level.blocks[0].attn.proj.weight.shape[0]]))
        assert query.shape[1] == level.windows.window[0] * level.windows.window[1]


@pytest.mark.parametrize("grid", [(16, 16), (13, 19), (9, 16), (3, 3)])
def test_windows_split_and_join(grid):
    windows = Windows(grid, 8)
    x = np.arange(2 * grid[0] * grid[1] * 3, dtype="float32").reshape(2, *grid, 3)
    parts = windows.split(paddle.to_tensor(x))
    assert parts.shape == [2 * 64, windows.window[0] * windows.window[1], 3]
    np.testing.assert_array_equal(windows.join(parts).numpy(), x)
    rows, columns = windows.window
    second = parts.numpy().reshape(2, 8, 8, rows, columns, 3)[1, 0, 0]  # the first window of the second image
    np.testing.assert_array_equal(second[: grid[0], : grid[1]], x[1, :rows, :columns])


def test_relative_positions():
    """Two tokens look up the place of their offset, whichever window shape they share."""
    index = Windows((16, 24), 8).index.numpy().reshape(6, 6)  # windows of 2 x 3 tokens, tables of 3 x 5 places
    for one in range(6):
        for other in range(6):
            down, right = one // 3 - other // 3, one % 3 - other % 3
            assert index[one, other] == (down + 1) * 5 + right + 2


def test_no_token_sees_the_padding(drawn):
    """Whatever lies in the padding changes nothing: attention gives it no weight."""
    model = pc.create_model(*drawn, img_size=(50, 75))
    model.eval()
    seen = []
    for level in model.levels:
        for block in level.blocks:
            keep, attention = level.windows, block.attn.attention

            def watched(q, k, *rest, attention=attention, keep=keep):
                maps = attention(q, k, *rest)
                if keep.mask is not None:
                    count = maps.shape[0] // keep.count
                    padded = np.tile(keep.mask.numpy()[:, 0, 0] < 0, (count, 1))[:, None, None]
                    real = maps.numpy() * ~padded
                    whole = ~padded.all(axis=-1)[:, 0, 0]
                    seen.append(np.abs(real.sum(-1)[whole] - 1).max())
                return maps

            block.attn.attention = watched
    run(model, pixels(2, (50, 75)))
    assert len(seen) >= 5 and max(seen) < 1e-5


def test_sizes_that_are_refused(drawn):
    with pytest.raises(pc.PaddleCaitError, match="img_size is 31x64, expected at least 32 a side"):
        pc.create_model(drawn[0], img_size=(31, 64))
    assert run(pc.create_model(drawn[0], img_size=[64, 96]), pixels(1, (64, 96))).shape == (1, 7)  # a list will do
    model = pc.create_model(drawn[0])
    with pytest.raises(pc.PaddleCaitError, match=r"input is \[1, 3, 96, 96\], expected \[batch, channels, 64, 64\]"):
        model(paddle.zeros([1, 3, 96, 96]))


def test_tables_of_another_size_are_resampled_and_said(drawn):
    report = pc.create_model(*drawn, img_size=96).load_report
    assert len(report.resized) == 9
    first = report.resized["levels.0.blocks.0.attn.relative_position_bias_table"]
    assert first == "2x2 positions resampled to 3x3 by the rule 'deit'"
    report = pc.create_model(*drawn).load_report
    assert not report.resized and not report.notes


def test_a_size_with_its_own_preset_is_that_preset(tmp_path):
    """What an official model for 96 pixels would be: the model of 64 pixels, built for 96."""
    own = preset(tmp_path, "at_96", family="gcvit", img_size=96)
    path = npz(tmp_path / "x.npz", draw_state(official_shapes(own)))
    small = preset(tmp_path, "at_64", family="gcvit")
    one, other = pc.create_model(own, path), pc.create_model(small, path, img_size=96)
    assert not other.load_report.resized
    x = images(2, 96)
    np.testing.assert_array_equal(run(one, x), run(other, x))


@pytest.mark.slow
def test_gcvit_large_at_384_is_its_preset(tmp_path):
    path = npz(tmp_path / "x.npz", draw_state(official_shapes(pc.get_preset("gcvit_large_384"))))
    x = images(1, 384)
    expected = run(pc.create_model("gcvit_large_384", path), x)
    np.testing.assert_array_equal(run(pc.create_model("gcvit_large", path, img_size=384), x), expected)


@pytest.mark.parametrize("size", [(224, 224), (384, 384), (512, 512), (320, 480)])
def test_the_same_weights_at_other_sizes(tmp_path, size):
    path = npz(tmp_path / "x.npz", draw_state(official_shapes(pc.get_preset("gcvit_xxtiny"))))
    model = pc.create_model("gcvit_xxtiny", path, img_size=size)
    assert model.levels[0].windows.window == (size[0] // 32, size[1] // 32) and model.levels[0].windows.mask is None
    assert len(model.load_report.resized) == (0 if size == (224, 224) else 12)
    logits = run(model, pixels(1, size))
    assert np.isfinite(logits).all() and logits.std() > 0.1
