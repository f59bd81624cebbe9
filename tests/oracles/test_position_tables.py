"""The rules by which position tables follow the image size, against the code they are named after."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
ndimage = pytest.importorskip("scipy.ndimage", reason="the oracle is scipy: make oracles")

from paddle_cait.layers.pos_embed import RULES, PositionTable  # noqa: E402

OLD = 14


def interpolated(table, side=OLD, **options):
    image = torch.from_numpy(table).double().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(image, **options).permute(0, 2, 3, 1).flatten(1, 2).numpy()


def oracle(rule, table, grid):
    if rule == "google":  # interpolate_posembed of vision_transformer's checkpoint.py
        zoom = (grid[0] / OLD, grid[1] / OLD, 1)
        return ndimage.zoom(table[0].reshape(OLD, OLD, -1), zoom, order=1).reshape(1, grid[0] * grid[1], -1)
    if rule == "dino":  # interpolate_pos_encoding
        return interpolated(table, scale_factor=tuple((side + 0.1) / OLD for side in grid), mode="bicubic")
    options = {
        "deit": {"mode": "bicubic", "align_corners": False},
        "timm": {"mode": "bicubic", "align_corners": False, "antialias": True},
        "timm_npz": {"mode": "bilinear", "align_corners": False},
    }
    return interpolated(table, size=grid, **options[rule])


@pytest.mark.parametrize("grid", [(24, 24), (7, 7), (5, 5), (37, 37), (16, 30), (1, 1), (2, 20)])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("prefix", [0, 2])
def test_rules(rule, grid, prefix):
    table = np.random.RandomState(0).randn(1, prefix + OLD * OLD, 24).astype(np.float32)
    found = PositionTable(rule, prefix, grid).resample(table, (OLD, OLD))
    assert found.dtype == np.float32 and found.shape == (1, prefix + grid[0] * grid[1], 24)
    np.testing.assert_array_equal(found[:, :prefix], table[:, :prefix])
    np.testing.assert_allclose(found[:, prefix:], oracle(rule, table[:, prefix:], grid), atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_the_same_grid_is_left_alone(rule):
    table = np.random.RandomState(0).randn(1, OLD * OLD, 24).astype(np.float32)
    assert PositionTable(rule, 0, (OLD, OLD)).resample(table, (OLD, OLD)) is table


def test_the_rules_differ():
    """By far more than the bound, so that none passes for another."""
    table = 0.1 * np.random.RandomState(0).randn(1, OLD * OLD, 24).astype(np.float32)
    for grid in ((16, 16), (10, 10)):
        found = {rule: PositionTable(rule, 0, grid).resample(table, (OLD, OLD)) for rule in RULES}
        names = list(found)
        for i, one in enumerate(names):
            assert all(np.abs(found[one] - found[other]).max() > 0.01 for other in names[:i])
