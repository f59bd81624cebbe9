"""The quick picture: tiles, and clicks that find the photograph's place in each of them."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="its colours")

from paddle_cait.app.preview import GAP, draw, of_figure

PHOTO = np.full((200, 300, 3), 90, np.uint8)
HEAT = np.eye(4)


def test_one_map_fills_the_picture_and_small_photographs_are_enlarged():
    found = draw(PHOTO, [HEAT], alpha=0.6)
    assert found.pixels.shape == (400, 600, 3) and found.tile == (400, 600)
    large = np.full((900, 800, 3), 90, np.uint8)
    assert draw(large, [HEAT], alpha=0.6).tile == (900, 800)


@pytest.mark.parametrize("count", [2, 3, 4, 6, 12, 16])
def test_several_maps_stand_beside_and_below_each_other(count):
    found = draw(PHOTO, [HEAT * number for number in range(count)], [str(n) for n in range(count)], alpha=0.6)
    height, width = found.tile
    assert found.pixels.shape[1] <= 1200
    rows, columns = (found.pixels.shape[0] + GAP) / (height + GAP), (found.pixels.shape[1] + GAP) / (width + GAP)
    assert rows == int(rows) and columns == int(columns) and count <= rows * columns < count + columns


def test_a_click_is_the_same_spot_in_every_tile_and_none_between():
    found = draw(PHOTO, [HEAT] * 6, alpha=0.6)
    height, width = found.tile
    spots = [found.spot(x * (width + GAP) + width / 4, y * (height + GAP) + height / 2) for x in (0, 1) for y in (0, 1)]
    assert all(spot == pytest.approx((0.5, 0.25)) for spot in spots)
    assert found.spot(width + GAP / 2, 5) is None


def test_the_chosen_patch_is_framed():
    bare, framed = draw(PHOTO, [HEAT], alpha=0.0), draw(PHOTO, [HEAT], alpha=0.0, mark=(0.5, 0.5, 0.75, 0.75))
    differs = np.argwhere((bare.pixels != framed.pixels).any(-1))
    assert (differs.min(0) >= (196, 296)).all() and (differs.max(0) <= (304, 454)).all()


def test_a_diagram_has_no_spots():
    from matplotlib.figure import Figure

    found = of_figure(Figure((3, 2)), width=600)
    assert found.pixels.shape == (400, 600, 3) and found.spot(10, 10) is None
