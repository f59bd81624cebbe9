"""Several captures of one model at a time, and what cannot be captured."""

from concurrent.futures import ThreadPoolExecutor

import drawn
import numpy as np
import paddle
import pytest

import paddle_cait as pc


def test_captures_may_overlap_in_any_order(tmp_path):
    model = drawn.model(tmp_path, "vit")
    images = drawn.batch(model)
    first, second = pc.capture_attention(model), pc.capture_attention(model, layers=[0])
    with paddle.no_grad():
        a, b = first.__enter__(), second.__enter__()
        model(images)
        first.__exit__(None, None, None)
        before = a["blocks.0.attn"]
        model(images * 2)
        second.__exit__(None, None, None)
    assert a["blocks.0.attn"] is before and (b["blocks.0.attn"] != before).any()
    assert not any("attention" in layer.__dict__ for layer in model.sublayers())


def test_each_thread_sees_its_own_forwards(tmp_path):
    model = drawn.model(tmp_path, "vit")
    images = [drawn.batch(model, 1) * (i + 1) for i in range(4)]

    def capture(x):
        for _ in range(5):
            with paddle.no_grad(), pc.capture_attention(model) as maps:
                model(x)
            yield {name: values.numpy() for name, values in maps.items()}

    expected = [next(capture(x)) for x in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: list(capture(x)), images))
    for own, runs in zip(expected, found):
        assert all((run[name] == own[name]).all() for run in runs for name in own)
    assert not any("attention" in layer.__dict__ for layer in model.sublayers())


def test_graph_of_a_folded_model_is_refused(tmp_path):
    folded = pc.fuse(drawn.model(tmp_path, "vit"))
    with pytest.raises(pc.PaddleCaitError, match="a folded model's maps are not in its graph"):
        pc.capture_attention(folded, graph=True).__enter__()


def test_a_part_in_a_static_graph_is_refused(tmp_path):
    model = drawn.model(tmp_path, "vit")
    model.forward_features = paddle.jit.to_static(model.forward_features, full_graph=True)
    with (
        paddle.no_grad(),
        pc.capture_attention(model),
        pytest.raises(pc.PaddleCaitError, match="runs as a static graph"),
    ):
        model(drawn.batch(model))


def test_places_may_be_numpys_and_nothing_else(tmp_path):
    model = drawn.model(tmp_path, "vit")
    assert list(drawn.capture(model, layers=np.int64(1))) == list(drawn.capture(model, layers=[1]))
    for wrong in (True, 1.5, [None]):
        with pytest.raises(pc.PaddleCaitError, match="no attention layer"):
            drawn.capture(model, layers=wrong)
