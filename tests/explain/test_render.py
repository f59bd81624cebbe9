"""Figures: nothing overlaps, nothing is cut off, what is shown is where it belongs, files are the same each time."""

import re
import subprocess
import sys
import threading

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain import page
from paddle_cait.explain.overlay import color_table, overlay
from paddle_cait.explain.render import (
    Panel,
    distance_figure,
    filters_figure,
    heat_figure,
    positions_figure,
    save_figure,
)
from paddle_cait.versions import __version__

pytestmark = pytest.mark.light

CAPTION = "ViT-S/16 (deit_small_patch16_224), weights deit_small.pdparams, photographs/tench.jpg: attention"
CHINESE = (
    "权重 cait_s24.pdparams，照片 /数据/花卉/蒲公英_没有空格.jpg：第十一层类别标记的注意力 🐟 \udcff $5 and $9\there"
)
RNG = np.random.default_rng(0)


def photo(height=60, width=80):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grid(layers, heads, title="blocks.{}.attn head {}"):
    return [[Panel(title.format(i, j), RNG.random((14, 14))) for j in range(heads)] for i in range(layers)]


def heat(rows, picture=None, **options):
    given = {"caption": CAPTION, "label": "attention", **options}
    return heat_figure(photo() if picture is None else picture, rows, **given)


def texts(figure):
    return [text.get_text() for text in figure.texts]


def pictures(figure):
    return figure.axes[0].images


def check_layout(figure):
    """All pictures and texts lie inside the figure and beside each other; texts are 6 points or more."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    found = [*pictures(figure), *figure.axes[1:], *figure.texts]
    corners = np.array([one.get_window_extent(renderer).extents for one in found]).reshape(-1, 2, 2)
    corners = np.concatenate([corners.min(1), corners.max(1)], 1)
    width, height = figure.get_size_inches() * figure.dpi
    assert corners[:, :2].min() >= -0.5 and corners[:, 2].max() <= width + 0.5 and corners[:, 3].max() <= height + 0.5
    low, high = np.maximum(corners[:, None, :2], corners[None, :, :2]), np.minimum(corners[:, None, 2:], corners[:, 2:])
    overlap = ((high - low) > 1.0).all(-1) & ~np.eye(len(found), dtype=bool)  # a pixel is the rounding of glyphs
    assert not overlap.any(), [str(found[i]) for i in np.argwhere(overlap)[0]]
    assert min(text.get_fontsize() for text in figure.texts) >= 6


@pytest.mark.parametrize("shape", [(60, 80), (360, 640), (500, 300)])
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (1, 7), (3, 4)])
def test_grids(layers, heads, shape):
    figure = heat(grid(layers, heads), photo(*shape))
    check_layout(figure)
    width, height = figure.get_size_inches()
    assert 3.29 < width < 7.01 and height < 10
    assert len(pictures(figure)) == layers * heads + 2  # with the photograph and the colour bar
    assert " ".join(texts(figure)[: len(page.wrapped(CAPTION, width - 0.12, 7))]) == CAPTION
    for picture in pictures(figure)[:-1]:
        left, right, bottom, top = picture.get_extent()
        assert (bottom - top) / (right - left) == pytest.approx(shape[0] / shape[1])


def test_twelve_layers_of_sixteen_heads():
    figure = heat(grid(12, 16), photo(360, 640), scale="figure")
    check_layout(figure)
    assert figure.get_size_inches()[0] == pytest.approx(7.0)
    written = texts(figure)
    assert written.count("blocks.11.attn") == 1 and written.count("head") == 16  # once each, "head" above its number
    check_layout(heat(grid(2, 7, "{} the title of a panel that has no others like it {}"), photo(60, 30)))


def test_a_row_with_more_heads_than_those_above_names_its_own():
    """GCViT's levels: 2, 16 and 4 heads."""
    rows = [grid(1, heads, f"levels.{i}.attn head {{1}}")[0] for i, heads in enumerate((2, 5, 4))]
    figure = heat(rows, photo())
    check_layout(figure)
    written = texts(figure)
    assert [written.count(f"levels.{i}.attn") for i in range(3)] == [1, 1, 1]
    assert [written.count(f"head {i}") for i in range(5)] == [2, 2, 1, 1, 1]


def test_titles_that_are_no_grid_stay_with_their_panels():
    rows = [[Panel("tench 92%", np.eye(3)), Panel("goldfish 3%", np.eye(3))], [Panel("hen 1%", np.eye(3))]]
    figure = heat(rows)
    check_layout(figure)
    assert {"tench 92%", "goldfish 3%", "hen 1%", "input"} <= set(texts(figure))
    untitled = heat([[Panel("", np.eye(3))]], caption="")
    check_layout(untitled)
    assert "input" not in texts(untitled)


def test_each_cell_shows_its_overlay():
    picture = photo(300, 400)
    values = [np.array([[0.0, 1.0], [2.0, 4.0]]), np.array([[8.0, 0.0], [0.0, 0.0]])]
    rows = [[Panel(str(i), one) for i, one in enumerate(values)]]
    for scale, limits in (("panel", [None, None]), ("figure", [(0.0, 8.0)] * 2)):
        figure = heat(rows, picture, scale=scale, interpolation="nearest", alpha=0.8, cmap="viridis")
        bare, *shown = [one.get_array() for one in pictures(figure)[:3]]
        for one, both, found in zip(values, limits, shown):
            options = {"cmap": "viridis", "alpha": 0.8, "interpolation": "nearest", "limits": both}
            np.testing.assert_array_equal(found, overlay(np.asarray(bare), one, **options))
    assert np.abs(np.asarray(bare, int).mean((0, 1)) - picture.mean((0, 1))).max() < 2
    assert len(pictures(heat(rows, show_photo=False))) == 3


def test_the_numbers_of_a_scale():
    rows = [[Panel("a", np.array([[0.0, 0.25]])), Panel("b", np.array([[0.5, np.nan]]))]]
    by_panel = texts(heat(rows))
    assert {"smallest", "largest", "0 to 0.25", "0.5 to 0.5", "attention, each panel scaled by itself"} <= set(by_panel)
    narrow = heat(grid(1, 12))
    check_layout(narrow)
    assert not any(" to " in text for text in texts(narrow)[1:])  # no room: they would run into each other
    together = texts(heat(rows, scale="figure"))
    assert {"0", "0.25", "0.5", "attention"} <= set(together) and "smallest" not in together
    assert {"0", "0.125", "0.25", "attention"} <= set(texts(heat([rows[0][:1]])))  # one panel needs no "itself"


def test_distance():
    distance, spread = 100 * RNG.random((12, 6)), 5 * np.ones((12, 6))
    distance[3, 4:] = np.nan
    distance[7] = np.nan
    names = [f"blocks.{i}.attn" for i in range(12)]
    figure = distance_figure(distance, caption=CAPTION, names=names, spread=spread)
    check_layout(figure)
    dots = np.concatenate([dots.get_offsets() for dots in figure.axes[1].collections if len(dots.get_offsets()) > 1])
    for layer in range(12):
        own = dots[np.abs(dots[:, 0] - layer) < 0.4]
        own = own[np.argsort(own[:, 0]), 1].astype(float)
        expected = np.sort(distance[layer])
        np.testing.assert_allclose(own[np.isfinite(own)], expected[np.isfinite(expected)])
    mean = figure.axes[1].lines[0]
    np.testing.assert_allclose(mean.get_ydata(), np.nanmean(np.delete(distance, 7, 0), 1))
    assert "blocks.11.attn" in texts(figure) and any("standard deviation" in line for line in texts(figure))
    plain = distance_figure(np.zeros((24, 16)), caption=CAPTION)
    check_layout(plain)
    assert {"0", "23", "layer, 0 is the first"} <= set(texts(plain))


def test_filters():
    filters = np.zeros((6, 4, 4, 3))
    filters[0, ..., 0], filters[1] = np.arange(16).reshape(4, 4), 7.0
    filters[2, 0, 0] = -1e-9
    figure = filters_figure(filters, caption=CAPTION)
    check_layout(figure)
    shown = np.asarray(pictures(figure)[0].get_array())
    assert figure.get_size_inches()[0] == pytest.approx(3.3)
    assert (shown[0, 0] == 0).all() and (shown[5, 5] == 0).all()
    height, width = shown.shape[:2]
    assert (shown[height // 4, width // 2] == 128).all()  # 3 columns: the second one's filter is constant
    assert (shown[0, -1] == 255).all() and (shown[0, int(width * 0.7)] == 0).all()
    assert (shown == 255).all(-1).all(0).any()  # white between columns
    check_layout(filters_figure(RNG.random((384, 14, 14, 3)), caption=CAPTION))
    check_layout(filters_figure(RNG.random((1, 2, 2, 3)), caption=CAPTION, columns=5))


@pytest.mark.parametrize(("rows", "columns", "step"), [(3, 5, 1), (16, 16, 1), (37, 37, 3)])
def test_positions(rows, columns, step):
    place = np.stack(np.mgrid[:rows, :columns], -1).reshape(-1, 2)
    near = np.exp(-((place[:, None] - place) ** 2).sum(-1) / 2).reshape(rows, columns, rows, columns)
    figure = positions_figure(near, caption=CAPTION, label="cosine similarity", limits=(-1.0, 1.0))
    check_layout(figure)
    written = texts(figure)
    assert any("Shown: one position in 3" in line for line in written) == (step > 1)
    assert {str(number) for number in range(0, columns, step)} <= set(written) and {"-1", "0", "1"} <= set(written)
    shown = np.asarray(pictures(figure)[0].get_array()).astype(int)
    white = (shown == 255).all(-1)
    shown = shown[~white.all(1)][:, ~white.all(0)]
    times = shown.shape[0] // (len(range(0, rows, step)) * rows)
    colors = color_table("viridis")
    for i, j in ((0, 0), (rows // 2 // step, columns // 3 // step), (0, (columns - 1) // step)):
        tile = shown[i * rows * times : (i + 1) * rows * times, j * columns * times : (j + 1) * columns * times]
        expected = colors[np.rint((near[i * step, j * step] + 1) / 2 * 255).astype(int)]
        np.testing.assert_array_equal(tile[times // 2 :: times, times // 2 :: times], expected)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_figure_gives_the_same_bytes(tmp_path, suffix):
    def save(name):
        rows = [[Panel("head 0", np.eye(4)), Panel("head 1", np.eye(4)[::-1])]]
        save_figure(heat(rows), tmp_path / name, dpi=50)

    save(f"a.{suffix}")
    with matplotlib.rc_context({"savefig.bbox": "tight", "figure.constrained_layout.use": True, "text.color": "red"}):
        other = threading.Thread(target=save, args=(f"b.{suffix.upper()}",))
        other.start()
        other.join()
    first = (tmp_path / f"a.{suffix}").read_bytes()
    assert first == (tmp_path / f"b.{suffix.upper()}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix.upper()}"]
    assert matplotlib.rcParams["pdf.fonttype"] == matplotlib.rcParamsDefault["pdf.fonttype"]


def test_what_a_file_says_about_itself(tmp_path):
    figure = heat([[Panel("", np.eye(2))]], caption=f"a & <b>\n{CHINESE}")
    for suffix in ("png", "pdf", "svg"):
        save_figure(figure, tmp_path / f"a.{suffix}", dpi=50)
    creator, title = f"paddle_cait {__version__}", r"a & <b> " + CHINESE.replace("\udcff", r"\udcff").replace("\t", " ")
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {"Title": title, "Creator": creator}
        assert image.size == tuple(np.floor(figure.get_size_inches() * 50).astype(int))
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and creator.encode() in pdf and b"CreationDate" not in pdf
    assert pdf.count(b"/Subtype /Image") == 3  # not melted into one
    assert re.search(rb"/FontFile2\b", pdf) and b"/Type3" not in pdf and not re.search(rb"/Subtype /Type1\b", pdf)
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "a &amp; &lt;b&gt; 权重" in svg and creator in svg and "<dc:date>" not in svg


def test_chinese_without_a_font_for_it(monkeypatch):
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    page._fonts.cache_clear()
    figure = heat([[Panel("丁鲷 92%", np.eye(2)), Panel("$x^2$ 鸡", np.eye(2))]], caption=CHINESE, label="注意力")
    check_layout(figure)  # warnings are errors: no glyph is missing
    assert {"?? 92%", r"\$x^2\$ ?"} <= set(texts(figure))
    page._fonts.cache_clear()


def test_chinese_with_a_font_for_it(monkeypatch):
    """No such font comes with matplotlib, so its serif one stands in: it has letters that the first font has not."""
    serif = str(font_manager.findfont("STIXGeneral"))  # it has bold and italic files too
    own, other = page._letters(page._fonts()[0]), page._letters(serif)
    letter = chr(max(code for code in other - own if chr(code).isprintable()))
    monkeypatch.setattr(page, "_CJK", ("STIXGeneral",))
    page._fonts.cache_clear()
    assert page.font_of(f"head {letter}") == serif and page.font_of("head") == page._fonts()[0]
    figure = heat([[Panel(f"head {letter}", np.eye(2))]], caption=f"{CAPTION} {letter}")
    check_layout(figure)
    assert f"head {letter}" in texts(figure)
    page._fonts.cache_clear()


def test_wrapping():
    width = page.text_width("of the class token", 7) + 0.001
    assert page.wrapped("attention of the class token", width, 7) == ["attention of the", "class token"]
    assert page.wrapped("one\n\ntwo", width, 7) == ["one", "", "two"] and page.wrapped("", width, 7) == []
    path = "/a/folder/of/photographs/n01440764_tench_000123456789.JPEG"
    pieces = page.wrapped(f"see {path}", width, 7)
    assert "".join(pieces[1:]) == path and all(piece.endswith(("/", "_", ".")) for piece in pieces[1:-1])
    assert "".join(page.wrapped("x" * 100, width, 7)) == "x" * 100 and len(page.wrapped("W" * 3, 0.01, 7)) == 3
    for text in (path, "x" * 100, CHINESE):
        assert all(page.text_width(line, 7) <= width for line in page.wrapped(text, width, 7))
    for narrower in np.linspace(0.3, 1.0, 8) * width:
        pieces = page.wrapped("猫狗，" * 50, narrower, 7)
        assert len(pieces) > 2 and not any(piece.startswith("，") for piece in pieces)


def test_bad_input_gets_one_line(tmp_path):
    def refused(message, function, *args, **options):
        with pytest.raises(PaddleCaitError, match=message) as caught:
            function(*args, **options)
        assert "\n" not in str(caught.value)

    figure = filters_figure(np.ones((1, 2, 2, 3)), caption="")
    refused(r"a.jpg: figures are written as .png, .pdf or .svg", save_figure, figure, tmp_path / "a.jpg")
    refused("dpi: 5000, expected 20 to 1200", save_figure, figure, tmp_path / "a.png", dpi=5000)
    refused("scale 'row': expected panel or figure", heat, grid(1, 1), scale="row")
    refused("at least one row, and one panel or more", heat, [])
    refused("at least one row, and one panel or more", heat, [[], []])
    refused(r"map: \[3\], expected", heat, [[Panel("", np.ones(3))]])
    refused(r"distance: \[2, 2\], expected finite", distance_figure, np.full((2, 2), np.nan), caption="")
    refused(r"spread: \[2\], expected \[2, 3\]", distance_figure, np.ones((2, 3)), caption="", spread=np.ones(2))
    refused("names: 1 of layers, expected 2", distance_figure, np.ones((2, 3)), caption="", names=["a"])
    refused(r"filters: \[2, 3, 4, 4\], expected", filters_figure, np.ones((2, 3, 4, 4)), caption="")
    refused("columns: 0, expected 1", filters_figure, np.ones((2, 4, 4, 3)), caption="", columns=0)
    refused(r"similarity: \[4, 4\], expected", positions_figure, np.ones((4, 4)), caption="", label="")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib(monkeypatch):
    page._fonts.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (lambda: heat(grid(1, 1)), lambda: filters_figure(np.ones((1, 2, 2, 3)), caption="")):
        with pytest.raises(PaddleCaitError, match=r'matplotlib is not installed: pip install "paddle_cait\[explain\]"'):
            draw()


def test_what_is_imported_when(tmp_path):
    code = (
        "import sys, numpy as np; from paddle_cait.explain.render import *; assert 'matplotlib' not in sys.modules\n"
        "save_figure(distance_figure(np.ones((2, 2)), caption='c'), sys.argv[1])\n"
        "assert 'matplotlib' in sys.modules and not {'matplotlib.pyplot', 'paddle'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], check=True)
    assert (tmp_path / "a.png").is_file()
