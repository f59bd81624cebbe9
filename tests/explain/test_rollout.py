"""Rollout against the paper's product of whole matrices, in float64."""

import drawn
import numpy as np
import pytest

import paddle_cait as pc


def matrix(values, fusion, discard):
    """Heads of one image [H, T, T] -> the block's matrix, row by row."""
    fused = getattr(np, fusion)(np.abs(values), axis=0)
    order = np.argsort(fused.ravel())
    for place in order[: int(discard * fused.size)]:
        fused[place // fused.shape[1], place % fused.shape[1]] = 0
    out = np.zeros_like(fused)
    for row in range(len(fused)):
        with_residual = fused[row].copy()
        with_residual[row] += 1
        out[row] = with_residual / with_residual.sum()
    return out


@pytest.mark.parametrize("fusion", ["mean", "min", "max"])
@pytest.mark.parametrize("discard", [0.0, 0.35, 0.9])
@pytest.mark.parametrize("family", ["vit", "dinov2"])
def test_product_of_all_blocks(tmp_path, family, fusion, discard):
    changes = {"num_register_tokens": 2} if family == "dinov2" else {}
    maps = drawn.capture(drawn.model(tmp_path, family, img_size=(48, 80), **changes))
    found = pc.explain.attention_rollout(maps, fusion, discard)
    prefix = 3 if family == "dinov2" else 1
    for image in range(3):
        rollout = np.eye(prefix + 15)
        for values in maps.values():
            rollout = matrix(values.numpy()[image].astype(np.float64), fusion, discard) @ rollout
        assert np.allclose(found[image], rollout[0, prefix:].reshape(3, 5), rtol=1e-12, atol=1e-15)


def test_without_discarding_a_block_is_half_attention_and_half_identity(tmp_path):
    maps = drawn.capture(drawn.model(tmp_path, "vit"), count=1)
    rollout = np.eye(10)
    for values in maps.values():
        rollout = (0.5 * values.numpy()[0].astype(np.float64).mean(0) + 0.5 * np.eye(10)) @ rollout
    # rows of a float32 softmax sum to 1 within 1e-7
    assert np.allclose(pc.explain.attention_rollout(maps)[0].ravel(), rollout[0, 1:], rtol=1e-6)


def test_two_class_tokens(tmp_path):
    maps = drawn.capture(drawn.model(tmp_path, "deit", distilled=True), count=1)
    rollout = np.eye(11)
    for values in maps.values():
        rollout = matrix(values.numpy()[0].astype(np.float64), "mean", 0) @ rollout
    for token, row in ((0, rollout[0]), (1, rollout[1]), (None, (rollout[0] + rollout[1]) / 2)):
        found = pc.explain.attention_rollout(maps, token=token)
        assert np.allclose(found[0].ravel(), row[2:], rtol=1e-12)


@pytest.mark.parametrize("fusion", ["mean", "max"])
def test_cait_from_the_class_layers_down_through_the_talking_heads(tmp_path, fusion):
    built = drawn.model(tmp_path, "cait", img_size=(48, 80))
    maps = drawn.capture(built)
    sums = np.concatenate([maps[f"blocks.{i}.attn"].numpy().sum(-1).ravel() for i in range(3)])
    assert sums.std() > 0.05 and min(maps[f"blocks.{i}.attn"].numpy().min() for i in range(3)) < 0  # no softmax's rows
    found = pc.explain.attention_rollout(maps, fusion)
    for image in range(3):
        rollout = np.eye(16)  # class token, then 15 patches
        for name, values in maps.items():
            own = values.numpy()[image].astype(np.float64)
            step = np.eye(16)
            if name.startswith("blocks."):
                step[1:, 1:] = matrix(own, fusion, 0)
            else:
                square = np.zeros([own.shape[0], 16, 16])
                square[:, :1] = own
                step[0] = matrix(square, fusion, 0)[0]
            rollout = step @ rollout
        assert np.allclose(found[image].ravel(), rollout[0, 1:], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("family", ["cait", "vit"])
def test_a_fused_model_gives_the_same(tmp_path, family):
    built = drawn.model(tmp_path, family)
    found = pc.explain.attention_rollout(drawn.capture(pc.fuse(built)))
    assert np.allclose(found, pc.explain.attention_rollout(drawn.capture(built)), atol=1e-6)


def test_refusals_say_why(tmp_path):
    with pytest.raises(pc.PaddleCaitError, match=r"tiny_gcvit.drawn: rollout means nothing here: no token lives"):
        pc.explain.attention_rollout(drawn.capture(drawn.model(tmp_path, "gcvit")))
    vit = drawn.model(tmp_path, "vit")
    with pytest.raises(
        pc.PaddleCaitError, match=r"follows all 3 layers, but 2 were not captured \(blocks.0.attn first\)"
    ):
        pc.explain.attention_rollout(drawn.capture(vit, layers=[-1]))
    maps = drawn.capture(vit)
    with pytest.raises(pc.PaddleCaitError, match="head_fusion is 'median', expected one of mean, min, max"):
        pc.explain.attention_rollout(maps, "median")
    with pytest.raises(pc.PaddleCaitError, match="discard_ratio is 1.0, expected 0 to less than 1"):
        pc.explain.attention_rollout(maps, discard_ratio=1.0)
