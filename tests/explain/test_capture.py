"""``capture_attention`` changes nothing, keeps what was asked for, and leaves no trace."""

import copy
import weakref

import numpy as np
import paddle
import pytest
from helpers import images
from test_fuse import built

import paddle_cait as pc
from paddle_cait.explain.capture import watch_attention

KINDS = ["cait", "vit", "vit_hybrid", "deit_distilled", "deit3", "dino", "dinov2_reg", "dinov2_swiglu", "gcvit_padded"]
CAIT = ["blocks.0.attn", "blocks.1.attn", "blocks.2.attn", "blocks_token_only.0.attn", "blocks_token_only.1.attn"]
DROP = {"drop_rate": 0.2, "attn_drop_rate": 0.2, "drop_path_rate": 0.2}


@pytest.fixture
def cait(tmp_path):
    return built(tmp_path, "cait")


def inputs(model, batch=2, seed=0):
    return paddle.to_tensor(images(batch, model.img_size[0], seed))


def captured(model, x, layers=None):
    with paddle.no_grad(), pc.capture_attention(model, layers) as maps:
        model(x)
    return maps


def same(maps, others):
    assert list(maps) == list(others)
    for name in maps:
        np.testing.assert_array_equal(maps[name].numpy(), others[name].numpy(), err_msg=name)


def expected_shape(layout, batch, heads):
    patches = layout.grid[0] * layout.grid[1]
    if layout.kind == "windows":
        tokens = layout.window[0] * layout.window[1]
        return [batch * layout.side**2, heads, tokens, tokens]
    keys = layout.prefix + patches
    return [batch, heads, 1 if layout.kind == "class" else keys, keys]


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_the_same_to_the_last_bit(tmp_path, kind):
    model = built(tmp_path, kind)
    ran, layers = [], model.attention_layers()
    for name, (layer, _) in layers.items():
        layer.register_forward_pre_hook(lambda layer, args, name=name: ran.append(name))
    for batch in (5, 1):
        x = inputs(model, batch)
        with paddle.no_grad():
            before = model(x).numpy()
            ran.clear()
            with pc.capture_attention(model) as maps:
                assert not maps
                during = model(x).numpy()
            np.testing.assert_array_equal(during, before)
            np.testing.assert_array_equal(model(x).numpy(), before)
        assert list(maps) == ran[: len(maps)] == list(layers)  # forward order
        check_what_maps_say_of_themselves(model, maps, batch)


def check_what_maps_say_of_themselves(model, maps, batch):
    assert maps.model == model.preset.full_name
    for name, (layer, layout) in model.attention_layers().items():
        assert maps.layouts[name] == layout
        assert list(maps[name].shape) == expected_shape(layout, batch, layer.num_heads), name
        assert maps[name].dtype == paddle.float32
        if layout.rows_sum_to_one:
            np.testing.assert_allclose(maps[name].sum(-1).numpy(), 1, atol=1e-6, err_msg=name)


def train_step(model, capture):
    paddle.seed(0)
    model.clear_gradients()
    with pc.capture_attention(model) if capture else paddle.set_grad_enabled(True) as maps:
        out = model(inputs(model))
        sum(part.square().sum() for part in (out if isinstance(out, tuple) else (out,))).backward()
    return {name: p.grad.numpy() for name, p in model.named_parameters()}, maps


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["cait", "deit_distilled", "gcvit"])
def test_training_is_the_same_to_the_last_bit(tmp_path, kind, recompute):
    model = built(tmp_path, kind, **DROP)
    model.train()
    model.set_grad_checkpointing(recompute)
    before, _ = train_step(model, capture=False)
    during, maps = train_step(model, capture=True)
    for name in before:
        np.testing.assert_array_equal(during[name], before[name], err_msg=name)
    assert list(maps) == list(model.attention_layers())
    for name, values in maps.items():  # what the softmax gave, before dropout
        if maps.layouts[name].rows_sum_to_one:
            np.testing.assert_allclose(values.sum(-1).numpy(), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, CAIT),
        (-1, CAIT[4:]),
        (0, CAIT[:1]),
        ([-5, 4], [CAIT[0], CAIT[4]]),
        ("blocks.1.attn", CAIT[1:2]),
        ("blocks.?.attn", CAIT[:3]),
        ("*token_only*", CAIT[3:]),
        (["*token_only*", 1, "blocks.1.attn", -4, "blocks.[01].attn"], [CAIT[0], CAIT[1], *CAIT[3:]]),
        (("blocks.2.attn",), CAIT[2:3]),
    ],
)
def test_what_is_chosen_is_kept(cait, layers, expected):
    x = inputs(cait)
    every, maps = captured(cait, x), captured(cait, x, layers)
    assert list(maps) == expected and list(maps.layouts) == CAIT  # in forward order, each once
    same(maps, {name: every[name] for name in expected})


@pytest.mark.parametrize("layers", [5, -6, "blocks.3.attn", "attn", ["blocks.0.attn", "head"], [0, 7]])
def test_layers_that_are_not_there(cait, layers):
    wrong = layers[1] if isinstance(layers, list) else layers
    with pytest.raises(pc.PaddleCaitError) as error, pc.capture_attention(cait, layers):
        raise AssertionError("the block ran")
    assert str(error.value) == (
        f"no attention layer {wrong!r}: expected blocks.0.attn to blocks_token_only.1.attn, a pattern, or a place from "
        "0 to 4 (-1 is the last)"
    )
    assert_untouched(cait)


def assert_untouched(model):
    for layer, _ in model.attention_layers().values():
        assert "attention" not in vars(layer) and layer.attention.__func__ is type(layer).attention


@pytest.mark.parametrize("kind", ["cait", "gcvit"])
def test_no_trace_is_left(tmp_path, kind):
    model = built(tmp_path, kind)
    attributes = [set(vars(layer)) for layer in model.sublayers(include_self=True)]
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    maps = captured(model, inputs(model))
    kept = {name: values.numpy() for name, values in maps.items()}
    assert_untouched(model)
    assert [set(vars(layer)) for layer in model.sublayers(include_self=True)] == attributes
    assert list(model.state_dict()) == list(state)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[name])
    twin = copy.deepcopy(model)
    assert_untouched(twin)
    with paddle.no_grad():
        np.testing.assert_array_equal(twin(inputs(model)).numpy(), model(inputs(model)).numpy())
        model(inputs(model, seed=1))
    for name, values in maps.items():  # forwards after the block do not reach the maps
        np.testing.assert_array_equal(values.numpy(), kept[name])


@pytest.mark.parametrize("where", ["block", "forward"])
def test_no_trace_is_left_by_an_exception(cait, where):
    with pytest.raises(pc.PaddleCaitError), pc.capture_attention(cait) as maps:
        cait(inputs(cait))
        if where == "block":
            raise pc.PaddleCaitError("on purpose")
        cait(paddle.zeros([1, 3, 64, 64]))
    assert_untouched(cait)
    assert list(maps) == CAIT


def test_captures_within_captures(cait):
    first, second, third = (inputs(cait, seed=seed) for seed in range(3))
    with paddle.no_grad(), pc.capture_attention(cait) as outer:
        cait(first)
        with pc.capture_attention(cait, -1) as inner, pc.capture_attention(cait, [0, -1]) as innermost:
            cait(second)
            same(outer, {**outer, **inner, **innermost})
        cait(third)
    same(outer, captured(cait, third))
    same(inner, captured(cait, second, -1))
    same(innermost, captured(cait, second, [0, -1]))
    assert_untouched(cait)


def test_anothers_replacement_of_the_method_stays(cait):
    layer = cait.blocks[1].attn
    own = layer.attention
    layer.attention = replaced = lambda q, k: own(q, k) * 0
    maps = captured(cait, inputs(cait))
    assert layer.attention is replaced and not maps["blocks.1.attn"].any()


def test_each_forward_replaces_the_maps(cait):
    with paddle.no_grad(), pc.capture_attention(cait) as maps:
        for seed, batch in ((0, 3), (1, 2)):
            cait(inputs(cait, batch, seed))
            same(maps, captured(cait, inputs(cait, batch, seed)))


def test_other_ways_to_run_a_model(tmp_path):
    model = built(tmp_path, "dinov2_reg")
    x = inputs(model)
    expected = captured(model, x)
    for forward in (model.forward_features, model.forward_tokens, lambda x: model.get_intermediate_layers(x, 2)):
        with paddle.no_grad(), pc.capture_attention(model) as maps:
            forward(x)
        same(maps, expected)
    gcvit = built(tmp_path, "gcvit", features_only=True)
    assert list(captured(gcvit, inputs(gcvit))) == list(gcvit.attention_layers())


FOLDED = [("cait", "matmul"), ("cait", "chain"), *((kind, None) for kind in KINDS[1:])]
FOLDED += [("vit_one_block", None), ("deit_without_head_dist", None)]


@pytest.mark.parametrize(("kind", "form"), FOLDED)
def test_folded_models(tmp_path, kind, form):
    """The model's names, order and maps; of a ViT's last layer only what the classified tokens ask."""
    model = built(tmp_path, kind)
    folded = pc.fuse(model, form=form)
    x = inputs(model, 3)
    expected, found = captured(model, x), captured(folded, x)
    assert list(found) == list(expected) and found.layouts == expected.layouts
    last = list(expected)[-1]
    if "gcvit" not in kind:
        assert found[last].shape[2] == (2 if kind == "deit_distilled" else 1)
        expected[last] = expected[last][:, :, : found[last].shape[2]]
    for name, values in expected.items():
        assert found[name].shape == values.shape, name
        np.testing.assert_allclose(found[name].numpy(), values.numpy(), atol=1e-5, rtol=0, err_msg=name)
    with paddle.no_grad():
        plain = folded(x).numpy()
        with pc.capture_attention(folded):
            np.testing.assert_array_equal(folded(x).numpy(), plain)
    assert_untouched(folded)


def in_float64(model):
    model.to(dtype="float64")
    for level in getattr(model, "levels", ()):  # Paddle casts whole numbers too
        level.windows.index = level.windows.index.astype("int64")
    return model


@pytest.mark.parametrize("kind", ["cait", "deit_distilled", "gcvit"])
def test_gradients_of_the_maps_are_finite_differences(tmp_path, kind):
    """A step along a random direction in one layer's maps changes the score as the gradient says."""
    model = in_float64(built(tmp_path, kind))
    x, step, rng = inputs(model).astype("float64"), 1e-5, np.random.RandomState(0)
    with pc.capture_attention(model, graph=True) as maps:
        score = model(x)[:, 1].sum()
    scales = [layer.weight for layer in model.sublayers() if isinstance(layer, paddle.nn.LayerNorm)]
    # The norms' scales are asked for too: on a CPU, what Paddle passes on lacks those that get no gradient themselves.
    gradients = dict(zip(maps, paddle.grad(score, [*maps.values(), *scales], allow_unused=True)))
    layers = model.attention_layers()
    for name in [list(layers)[place] for place in (0, 1, len(layers) // 2, -1)]:
        layer = layers[name][0]
        direction, own, scores = paddle.to_tensor(rng.standard_normal(maps[name].shape)), layer.attention, []
        for sign in (1, -1):
            layer.attention = lambda *args, sign=sign, own=own, way=direction: own(*args) + sign * step * way
            with paddle.no_grad():
                scores.append(float(model(x)[:, 1].sum()))
        del layer.attention
        expected = float((gradients[name] * direction).sum())
        assert abs(expected) > 1e-3 and (scores[0] - scores[1]) / (2 * step) == pytest.approx(expected, rel=1e-5), name


def test_maps_are_cut_from_the_graph_unless_asked_for(cait):
    x = inputs(cait)
    with pc.capture_attention(cait) as cut, pc.capture_attention(cait, graph=True) as kept:
        cait(x)
    assert all(values.stop_gradient for values in cut.values())
    assert not any(values.stop_gradient for values in kept.values())
    same(cut, kept)


def test_watching_keeps_nothing(cait):
    x, expected, seen, alive = inputs(cait), {}, [], []

    def see(name, layout, maps):
        assert not any(reference() for reference in alive)  # the maps before were given up
        alive.append(weakref.ref(maps))
        seen.append((name, layout))
        np.testing.assert_array_equal(maps.numpy(), expected[name])
        assert maps.stop_gradient

    expected = {name: values.numpy() for name, values in captured(cait, x).items()}
    with watch_attention(cait, see) as nothing:
        cait(x)
    assert nothing is None and seen == [(name, layout) for name, (_, layout) in cait.attention_layers().items()]
    with watch_attention(cait, see, layers=[-1, 1]):
        cait(x)
    assert [name for name, _ in seen[5:]] == [CAIT[1], CAIT[4]]
    with pytest.raises(pc.PaddleCaitError, match="no attention layer 9"), watch_attention(cait, see, layers=9):
        pass
    assert_untouched(cait)


def test_a_data_parallel_model(cait):
    with pytest.warns(UserWarning, match="single-card"):
        wrapped = paddle.DataParallel(cait)
    maps = captured(wrapped, inputs(cait))
    assert maps.model == cait.preset.full_name
    same(maps, captured(cait, inputs(cait)))


def test_what_cannot_be_captured(tmp_path):
    with pytest.raises(pc.PaddleCaitError, match="^Linear: its attention cannot be captured, expected a model of"):
        captured(paddle.nn.Linear(2, 2), paddle.ones([2, 2]))
    model = built(tmp_path, "vit")
    for full_graph in (True, False):
        static = paddle.jit.to_static(copy.deepcopy(model), full_graph=full_graph)
        with pytest.raises(pc.PaddleCaitError, match=r"^VisionTransformer: runs as a static graph .*to_static"):
            captured(static, inputs(model))
