"""What the class token reads, against plain loops over the captured maps."""

import drawn
import numpy as np
import pytest

import paddle_cait as pc


def by_hand(maps, name, tokens, prefix):
    """[B, heads, h, w] of the mean of ``tokens``' rows, patch by patch."""
    values, (rows, columns) = maps[name].numpy().astype(np.float64), maps.layouts[name].grid
    out = np.zeros([*values.shape[:2], rows, columns])
    for r in range(rows):
        for c in range(columns):
            out[:, :, r, c] = sum(values[:, :, token, prefix + r * columns + c] for token in tokens) / len(tokens)
    return out


@pytest.mark.parametrize(
    ("family", "changes", "prefix"),
    [("vit", {}, 1), ("deit3", {}, 1), ("dino", {}, 1), ("dinov2", {"num_register_tokens": 4}, 5)],
)
def test_the_class_tokens_row_of_any_block(tmp_path, family, changes, prefix):
    maps = drawn.capture(drawn.model(tmp_path, family, img_size=(48, 80), **changes))
    for name in maps:
        found = pc.explain.class_attention(maps, name)
        assert found.dtype == np.float64 and found.shape == (3, 5, 3, 5)
        assert np.array_equal(found, by_hand(maps, name, [0], prefix))
        assert found.std() > 0.01  # weights that show a mistake
    assert np.array_equal(pc.explain.class_attention(maps), pc.explain.class_attention(maps, "blocks.2.attn"))


def test_a_distilled_model_has_two_tokens_that_ask(tmp_path):
    maps = drawn.capture(drawn.model(tmp_path, "deit", distilled=True))
    for token, rows in ((0, [0]), (1, [1]), (None, [0, 1])):
        found = pc.explain.class_attention(maps, -1, token)
        assert np.allclose(found, by_hand(maps, "blocks.2.attn", rows, 2), atol=1e-15)
    with pytest.raises(pc.PaddleCaitError, match=r"token is 2, expected 0 \(class\), 1 \(distillation\)"):
        pc.explain.class_attention(maps, -1, 2)


def test_caits_class_token_lives_in_its_last_layers(tmp_path):
    maps = drawn.capture(drawn.model(tmp_path, "cait"))
    for name in ("blocks_token_only.0.attn", "blocks_token_only.1.attn"):
        assert np.array_equal(pc.explain.class_attention(maps, name), by_hand(maps, name, [0], 1))
    with pytest.raises(
        pc.PaddleCaitError, match=r"blocks\.1\.attn: has no class token, tiny_cait.drawn has it in blocks_"
    ):
        pc.explain.class_attention(maps, "blocks.1.attn")


def test_saliency_is_the_heads_mean_stretched_in_each_image(tmp_path):
    maps = drawn.capture(drawn.model(tmp_path, "cait"))
    mean = by_hand(maps, "blocks_token_only.0.attn", [0], 1).mean(1)  # the first class-attention layer, as the paper
    found = pc.explain.saliency(maps)
    for image, own in zip(found, mean):
        assert image.min() == 0 and image.max() == 1
        assert np.allclose(image, (own - own.min()) / (own.max() - own.min()), atol=1e-15)
    vit = drawn.capture(drawn.model(tmp_path, "vit"))
    last = by_hand(vit, "blocks.2.attn", [0], 1).mean(1)
    assert pc.explain.saliency(vit)[0].argmax() == last[0].argmax()


def test_attention_of_one_patch(tmp_path):
    maps = drawn.capture(drawn.model(tmp_path, "dinov2", img_size=(48, 80), num_register_tokens=2))
    found = pc.explain.patch_attention(maps, (1, 3), 0)
    assert np.array_equal(found, by_hand(maps, "blocks.0.attn", [3 + 1 * 5 + 3], 3))
    with pytest.raises(pc.PaddleCaitError, match="patch is 3,0, expected a place from 0,0 to 2,4"):
        pc.explain.patch_attention(maps, (3, 0))
    fused = drawn.capture(pc.fuse(drawn.model(tmp_path, "vit")))
    with pytest.raises(pc.PaddleCaitError, match=r"blocks\.2\.attn: patches do not ask in this layer"):
        pc.explain.patch_attention(fused, (0, 0))


def test_the_fewest_patches_that_hold_a_share():
    values = np.random.RandomState(0).rand(2, 3, 4, 5)
    for share in (0.1, 0.6, 1.0):
        kept = pc.explain.keep_mass(values, share)
        for mask, own in zip(kept.reshape(-1, 20), values.reshape(-1, 20)):
            total, expected = 0.0, set()
            for place in np.argsort(-own):
                if total >= share * own.sum() - 1e-12:
                    break
                total += own[place]
                expected.add(place)
            assert set(np.flatnonzero(mask)) == expected
    with pytest.raises(pc.PaddleCaitError, match="expected above 0 and at most 1"):
        pc.explain.keep_mass(values, 0)


def test_refusals_say_why(tmp_path):
    with pytest.raises(pc.PaddleCaitError, match="GCViT has no class token, it averages its last map"):
        pc.explain.class_attention(drawn.capture(drawn.model(tmp_path, "gcvit")))
    vit = drawn.model(tmp_path, "vit")
    with pc.capture_attention(vit) as maps, pytest.raises(pc.PaddleCaitError, match="no attention was captured: run"):
        pc.explain.class_attention(maps)
    with pytest.raises(pc.PaddleCaitError, match="means 3 layers, expected one"):
        pc.explain.class_attention(drawn.capture(vit), "blocks.*")
