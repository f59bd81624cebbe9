"""What is timed must be right: agreement, drawn weights, and the names under which timm gets them."""

import numpy as np
import paddle
import pytest
from helpers import images, official_shapes, preset

import paddle_cait as pc
from paddle_cait.bench.check import compare, refusal
from paddle_cait.bench.drawn import drawn
from paddle_cait.bench.timm_models import in_timms_names

LOGITS = np.random.RandomState(0).standard_normal((8, 10))


def test_rounding_is_agreement_and_a_wrong_engine_is_refused():
    close = compare(LOGITS + 1e-5, LOGITS)
    assert close.top1_equal == close.images == 8 and not refusal(close, "fp32")
    wrong = compare(LOGITS * 1.01, LOGITS)
    assert wrong.difference == pytest.approx(0.01)
    assert "computes something else: off by 1.0e-02" in refusal(wrong, "fp32")
    assert not refusal(wrong, "bf16")
    assert refusal(compare(LOGITS[::-1], LOGITS), "int8")


@pytest.mark.parametrize("broken", [LOGITS[:4], LOGITS * np.nan, np.where(LOGITS > 2, np.inf, LOGITS)])
def test_other_shapes_and_no_numbers_are_refused_in_every_precision(broken):
    for precision in ("fp32", "bf16", "int8"):
        assert refusal(compare(broken, LOGITS), precision)


def test_pixels_must_be_equal():
    digests = np.asarray([3.0, 4.0])
    assert not refusal(compare(digests, digests), "exact")
    assert refusal(compare(digests * (1 + 1e-9), digests), "exact")
    assert compare(digests, digests).top1_equal is None


@pytest.mark.parametrize("family", ["cait", "vit", "deit3", "gcvit"])
def test_drawn_weights_give_logits_of_size_one(tmp_path, family):
    chosen = preset(tmp_path, family=family, **({"init_values": 1e-5} if family == "gcvit" else {}))
    state = drawn(official_shapes(chosen))
    np.savez(tmp_path / "state.npz", **state)
    model = pc.create_model(chosen, tmp_path / "state.npz")
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(images(4, chosen.arch["img_size"]))).numpy()
    assert 0.2 < logits.std() < 4
    again = drawn(official_shapes(chosen))
    assert all((again[name] == value).all() for name, value in state.items())


def test_names_of_timm():
    """GCViT's are other names and shapes there; a first entry of the position table goes into the class token."""
    state = {
        "levels.0.downsample.norm1.weight": np.ones(3),
        "levels.0.q_global_gen.to_q_global.0.conv.2.fc.0.weight": np.ones((2, 3)),
    }
    wanted = {
        "stages.1.downsample.norm1.weight": (3,),
        "stages.0.global_block.blocks.conv1.se.fc1.weight": (2, 3, 1, 1),
    }
    found = in_timms_names(state, wanted)
    assert {name: value.shape for name, value in found.items()} == wanted
    tokens = {
        "cls_token": np.ones((1, 1, 2)),
        "pos_embed": np.arange(10.0).reshape(1, 5, 2),
        "register_tokens": np.ones(1),
    }
    found = in_timms_names(tokens, {"cls_token": (1, 1, 2), "pos_embed": (1, 4, 2), "reg_token": (1,)})
    assert found["cls_token"].tolist() == [[[1.0, 2.0]]] and found["pos_embed"][0, 0].tolist() == [2.0, 3.0]


def test_another_model_is_told():
    with pytest.raises(pc.PaddleCaitError, match="another one than the preset: extra is in one of them alone"):
        in_timms_names({"a": np.ones(1), "extra": np.ones(1)}, {"a": (1,)})
