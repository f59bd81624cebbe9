"""GCViT's windows, put back on the map place by place."""

import drawn
import numpy as np
import pytest

import paddle_cait as pc


@pytest.mark.parametrize("img_size", [(64, 64), (96, 136)])  # the second pads its maps
@pytest.mark.parametrize("query", [None, (0, 1)])
def test_each_place_shows_what_its_window_reads(tmp_path, img_size, query):
    maps = drawn.capture(drawn.model(tmp_path, "gcvit", img_size=img_size))
    for name, tensor in maps.items():
        layout, values = maps.layouts[name], tensor.numpy().astype(np.float64)
        (height, width), side, (rows, columns) = layout.grid, layout.side, layout.window
        if query is not None and (query[0] >= rows or query[1] >= columns):
            continue
        found = pc.explain.window_attention(maps, name, query)
        assert found.shape == (3, values.shape[1], height, width)
        for y in range(0, height, 2):
            for x in range(width):
                window = (y // rows) * side + x // columns
                key = (y % rows) * columns + x % columns
                tokens = [query[0] * columns + query[1]] if query else _asking(layout, y // rows, x // columns)
                for image in range(3):
                    own = values[image * side * side + window, :, tokens, key].mean(0)
                    assert np.allclose(found[image, :, y, x], own, atol=1e-14)


def _asking(layout, row, column):
    """A window's queries that lie on the map; a global query has no place that could lie beyond it."""
    rows, columns = layout.window
    places = [(r, c) for r in range(rows) for c in range(columns)]
    return [
        r * columns + c
        for r, c in places
        if layout.shared or (row * rows + r < layout.grid[0] and column * columns + c < layout.grid[1])
    ]


def test_within_a_window_the_weights_sum_to_one(tmp_path):
    found = pc.explain.window_attention(drawn.capture(drawn.model(tmp_path, "gcvit")), 0)  # 16x16 in windows of 2x2
    assert np.allclose(found.reshape(3, 2, 8, 2, 8, 2).sum((3, 5)), 1, atol=1e-6)


def test_refusals_say_why(tmp_path):
    with pytest.raises(pc.PaddleCaitError, match="tiny_vit.drawn has no windows, each token sees the whole image"):
        pc.explain.window_attention(drawn.capture(drawn.model(tmp_path, "vit")))
    maps = drawn.capture(drawn.model(tmp_path, "gcvit"))
    with pytest.raises(pc.PaddleCaitError, match="query is 2,0, expected a place in the window, 0,0 to 1,1"):
        pc.explain.window_attention(maps, 0, (2, 0))
