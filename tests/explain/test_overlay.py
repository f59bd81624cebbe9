"""Maps over photographs, pixel by pixel: colours are read from matplotlib's table and blended by hand."""

import sys

import matplotlib
import numpy as np
import pytest

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.overlay import color_table, overlay, value_range

pytestmark = pytest.mark.light


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (36, 64, 3), dtype=np.uint8)


def color(name, place):
    return np.array(matplotlib.colormaps[name](place)[:3]) * 255


def blended(photo, name, level, opacity):
    return photo * (1 - opacity) + color(name, level / 255) * opacity


@pytest.mark.parametrize("name", ["inferno", "viridis"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic"])
def test_the_corners_of_a_2x2_map_have_the_known_colours(photo, name, interpolation):
    found = overlay(photo, np.array([[1.0, 3.0], [2.0, 5.0]]), cmap=name, interpolation=interpolation)
    assert found.shape == photo.shape and found.dtype == np.uint8
    for (y, x), value in {(0, 0): 0.0, (0, -1): 0.5, (-1, 0): 0.25, (-1, -1): 1.0}.items():
        if interpolation == "bicubic" and 0 < value < 1:
            continue  # overshoots at the border
        expected = blended(photo[y, x], name, round(255 * value), 0.45 + 0.3 * value)
        assert np.abs(found[y, x] - expected).max() <= 1.5, (y, x)  # opacity and blend are rounded to 1/255 each


def test_bilinear_is_halfway_between_two_patches():
    black = np.zeros((8, 80, 3), np.uint8)
    found = overlay(black, np.array([[0.0, 1.0]]), alpha=1.0)
    place = (40.5 - 20) / 40  # pixel 40's middle, on the way from one patch's middle (20) to the next one's (60)
    np.testing.assert_allclose(found[:, 40], np.tile(color("inferno", round(255 * place) / 255), (8, 1)), atol=1)


def test_nearest_shows_the_patches(photo):
    found = overlay(photo, np.arange(6.0).reshape(2, 3)[:, [2, 0, 1]], alpha=1.0, interpolation="nearest")
    assert len(np.unique(found.reshape(-1, 3), axis=0)) == 6
    assert (found[:18, :21] == found[0, 0]).all() and (found[18:, 43:] == found[-1, -1]).all()


def test_the_photograph_stays_bare_where_there_is_nothing_to_show(photo):
    values = np.random.default_rng(1).random((4, 8))
    values[1, 2], values[3, 7], values[0, 0] = np.nan, np.inf, -np.inf
    for interpolation in ("bilinear", "bicubic", "nearest"):
        found = overlay(photo, values, interpolation=interpolation)
        bare = np.repeat(np.repeat(~np.isfinite(values), 9, 0), 8, 1)
        assert (found[bare] == photo[bare]).all()
        assert (found[~bare] != photo[~bare]).any(-1).mean() > 0.99


def test_nothing_is_not_a_zero_to_the_neighbours():
    grey = np.full((20, 40, 3), 90, np.uint8)
    alone = overlay(grey, np.array([[4.0, np.nan]]), limits=(0.0, 4.0))
    assert (alone[:, :20] == overlay(grey, np.array([[4.0]]), limits=(0.0, 4.0))[0, 0]).all()


def test_only_nan_is_the_photograph(photo):
    assert (overlay(photo, np.full((3, 3), np.nan)) == photo).all()


@pytest.mark.parametrize("value", [0.0, 0.7, -3.0, 1e-30, 1e30])
def test_a_constant_map_has_the_first_colour(photo, value):
    cold = overlay(photo, np.array([[0.0, 1.0]]), interpolation="nearest")[:, :32]
    assert (overlay(photo, np.full((2, 2), value))[:, :32] == cold).all()
    noise = value * (1 + 3e-8 * np.arange(4).reshape(2, 2))
    assert (overlay(photo, noise)[:, :32] == cold).all()


def test_limits(photo):
    values = np.array([[0.2, 0.6]])
    inside = overlay(photo, values, limits=(0.0, 1.0), interpolation="nearest", alpha=1.0)
    np.testing.assert_allclose(inside[0, 0], color("inferno", 51 / 255), atol=1)
    np.testing.assert_allclose(inside[0, -1], color("inferno", 153 / 255), atol=1)
    beyond = overlay(photo, values, limits=(0.3, 0.5), interpolation="nearest", alpha=1.0)
    np.testing.assert_allclose(beyond[0, 0], color("inferno", 0.0), atol=1)
    np.testing.assert_allclose(beyond[0, -1], color("inferno", 1.0), atol=1)
    step = overlay(photo, values, limits=(0.4, 0.4), interpolation="nearest", alpha=1.0)
    assert (step == beyond).all()


def test_alpha(photo):
    values = np.random.default_rng(2).random((5, 5))
    assert (overlay(photo, values, alpha=0.0) == photo).all()
    assert (overlay(photo, values, alpha=1.0) == overlay(255 - photo, values, alpha=1.0)).all()


def test_shapes_and_types_that_come_from_models(photo):
    values = np.random.default_rng(3).random((14, 14))
    for kind in (np.float32, np.float16):
        again = overlay(photo, values.astype(kind)).astype(int)
        assert np.abs(again - overlay(photo, values)).max() <= 3
    assert overlay(photo[:, ::-1], values[::-1].T).shape == photo.shape  # not contiguous
    assert overlay(photo[:1, :1], values).shape == (1, 1, 3)  # smaller than the map
    before = photo.copy()
    overlay(photo, values)[:] = 0  # the result is the caller's own
    assert (photo == before).all()


def test_value_range():
    nan = np.full((2, 2), np.nan)
    assert value_range(np.array([[3.0, np.nan]]), np.array([[-1.0, np.inf]]), nan) == (-1.0, 3.0)
    assert value_range(nan) == (0.0, 0.0) == value_range()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photo": np.zeros((4, 4, 3))}, r"photograph: float64 \[4, 4, 3\], expected uint8 \[height, width, 3\]"),
        ({"photo": np.zeros((4, 4), np.uint8)}, r"photograph: uint8 \[4, 4\], expected uint8"),
        ({"values": np.zeros((2, 2, 2))}, r"map: \[2, 2, 2\], expected \[rows, columns\]"),
        ({"values": np.zeros((0, 2))}, r"map: \[0, 2\], expected"),
        ({"limits": (1.0, 0.0)}, r"limits \(1, 0\): expected two finite numbers, the smaller first"),
        ({"limits": (0.0, np.nan)}, r"limits \(0, nan\): expected"),
        ({"interpolation": "cubic"}, "interpolation 'cubic': expected one of nearest, bilinear, bicubic"),
        ({"cmap": "jetty"}, "colormap 'jetty': matplotlib has none of this name, expected e.g. inferno"),
        ({"alpha": 1.5}, "alpha 1.5: expected 0"),
        ({"alpha": np.nan}, "alpha nan: expected 0"),
    ],
)
def test_bad_input_gets_one_line(photo, change, message):
    args = {"photo": photo, "values": np.zeros((2, 2)), **change}
    with pytest.raises(PaddleCaitError, match=message) as caught:
        overlay(args.pop("photo"), args.pop("values"), **args)
    assert "\n" not in str(caught.value)


def test_without_matplotlib(photo, monkeypatch):
    color_table.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PaddleCaitError, match=r'matplotlib is not installed: pip install "paddle_cait\[explain\]"'):
        overlay(photo, np.zeros((2, 2)))
