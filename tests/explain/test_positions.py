"""Similarity of position embeddings against its definition, one pair at a time."""

import math

import numpy as np
import paddle
import pytest
from helpers import draw_state, npz, official_shapes, preset

import paddle_cait as pc
from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.positions import position_similarity

# family, what it adds, entries of its table that are no patch's
KINDS = [
    ("cait", {}, 0),
    ("deit", {}, 1),
    ("deit", {"distilled": True}, 2),
    ("deit3", {}, 0),
    ("dinov2", {"num_register_tokens": 4}, 1),
    ("vit_hybrid", {}, 1),
]


def drawn(tmp_path, family, **changes):
    tiny = preset(tmp_path, family=family, **changes)
    state = draw_state(official_shapes(tiny))
    if family == "dinov2":
        state["mask_token"] = np.ones((1, 40), "float32")
    return pc.create_model(tiny, npz(tmp_path / "drawn.npz", state), img_size=(32, 64))


@pytest.mark.parametrize(("family", "changes", "prefix"), KINDS)
def test_is_the_definition(family, changes, prefix, tmp_path):
    model = drawn(tmp_path, family, **changes)
    rows, columns = model.grid
    table = model.pos_embed.numpy()[0].astype(np.float64)
    assert len(table) == prefix + rows * columns
    cosine, dot = position_similarity(model), position_similarity(model, "dot")
    assert cosine.shape == dot.shape == (rows, columns, rows, columns) and cosine.dtype == np.float64
    for y, x in np.ndindex(rows, columns):
        for v, u in np.ndindex(rows, columns):
            one, other = table[prefix + y * columns + x], table[prefix + v * columns + u]
            product = math.fsum(a * b for a, b in zip(one, other))
            lengths = math.hypot(*one) * math.hypot(*other)
            assert dot[y, x, v, u] == pytest.approx(product, rel=1e-9, abs=1e-9)
            assert cosine[y, x, v, u] == pytest.approx(product / lengths, rel=1e-9, abs=1e-9)
    assert cosine.min() < -0.1  # drawn: nothing is alike by itself


def test_a_position_of_zeros_is_like_none(tmp_path):
    model = drawn(tmp_path, "deit")
    table = model.pos_embed.numpy()
    table[0, 3] = 0.0  # of the patch 2: row 0, column 2
    model.pos_embed.set_value(paddle.to_tensor(table))
    found = position_similarity(model)
    assert not found[0, 2].any() and not found[:, :, 0, 2].any()
    assert found[1, 1, 1, 1] == pytest.approx(1.0)


def test_refusals(tmp_path):
    model = drawn(tmp_path, "deit")
    with pytest.raises(PaddleCaitError, match="metric is 'l2', expected cosine or dot"):
        position_similarity(model, "l2")
    with pytest.raises(PaddleCaitError, match="GCViT: its patches have no positions"):
        position_similarity(pc.create_model(preset(tmp_path, family="gcvit")))
    with pytest.raises(PaddleCaitError, match="FusedModel: has no position table"):
        position_similarity(pc.fuse(model))
