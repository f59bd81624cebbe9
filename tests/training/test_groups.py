"""Every preset's parameters are in one group each, from the stem to the classifier."""

import paddle
import pytest

import paddle_cait as pc
from paddle_cait.training.groups import layers, parameter_groups

NAMES = ["cait_xxs24_224", "deit_tiny_distilled_patch16_224", "dino_vits16", "dinov2_vits14_reg",
         "vit_tiny_r_s16_p8_224", "gcvit_xxtiny"]  # fmt: skip


def shapes(name):
    with paddle.LazyGuard():
        return {key: tuple(p.shape) for key, p in pc.create_model(name, num_classes=5).named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_is_in_one_group(name):
    found = shapes(name)
    groups = parameter_groups(found, 0.05, 0.75)
    assert sorted(key for group in groups for key in group.names) == sorted(found)
    assert [group.scale for group in groups] == sorted(group.scale for group in groups)
    assert groups[-1].scale == 1.0 and all(key.startswith("head") for key in groups[-1].names)
    assert {group.decay for group in groups} == {0.0, 0.05}
    whole = parameter_groups(found, 0.05)
    assert len(whole) == 2 and {group.scale for group in whole} == {1.0}


def test_layers_of_cait():
    found = layers(shapes("cait_xxs24_224"))
    assert found["pos_embed"] == found["patch_embed.proj.weight"] == 0
    assert found["blocks.0.gamma_1"] == 1 and found["blocks.23.attn.qkv.weight"] == 24
    assert found["blocks_token_only.0.attn.q.weight"] == 23 and found["blocks_token_only.1.norm1.bias"] == 24
    assert found["norm.weight"] == 24 and found["head.bias"] == 25
