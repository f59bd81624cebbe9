"""Multiply-adds against numbers computed by hand."""

import numpy as np
import pytest
from helpers import preset

import paddle_cait as pc
from paddle_cait.bench.operations import count


def counted(chosen):
    model = pc.create_model(chosen)
    return count(model, np.zeros((1, 3, *model.img_size), np.float32))


def test_cait(tmp_path):
    """48 pixels in patches of 16: N = 9 tokens; C = 40, H = 5; 3 blocks of ratio 3, 2 class blocks of ratio 2."""
    n, c, h = 9, 40, 5
    block = 4 * n * c * c + 2 * n * c * (3 * c)
    class_block = (
        2 * (n + 1) * c * c + 2 * c * c + 2 * c * (2 * c)
    )  # keys and values of all; query, projection, MLP of one
    mixed = 2 * n * n * c + 2 * h * h * n * n  # scores and values; heads mixed before and after the softmax
    asked = 2 * (n + 1) * c
    assert counted(preset(tmp_path)) == {
        "linear": 3 * block + 2 * class_block + c * 7,
        "convolution": n * c * (3 * 16 * 16),
        "product": 3 * mixed + 2 * asked,
    }


def test_vit(tmp_path):
    t, c = 10, 40  # the class token is one more
    assert counted(preset(tmp_path, family="vit")) == {
        "linear": 3 * (4 * t * c * c + 2 * t * c * 3 * c) + c * 7,
        "convolution": 9 * c * 3 * 16 * 16,
        "product": 3 * 2 * t * t * c,
    }


@pytest.mark.parametrize(
    ("name", "norms", "published"),
    [
        ("cait_xxs24_224", 24 * 2 * 196 + 2 * (197 + 1) + 1, 2.53),
        ("deit_tiny_patch16_224", 12 * 2 * 197 + 197, 1.26),
    ],
)
def test_published_numbers_count_norms_too(name, norms, published):
    """timm's tables: the same, and 5 for each number of a layer norm (``norms`` tokens of 192)."""
    total = sum(counted(pc.get_preset(name)).values())
    assert round((total + 5 * norms * 192) / 1e9, 2) == published


def test_nothing_stays_patched(tmp_path):
    import paddle

    before = paddle.matmul
    model = pc.create_model(preset(tmp_path))
    with pytest.raises(pc.PaddleCaitError):
        count(model, np.zeros((1, 3, 64, 64), np.float32))
    assert paddle.matmul is before
    assert not any(layer._forward_post_hooks for layer in model.sublayers())
