"""A figure laid out in inches from its top left corner, with a caption that fits: what all figures are drawn on.

Every text is written here, one line at a time, in a font that has its letters; nothing is left to matplotlib's
layout, which differs between versions. No pyplot and no global state: any thread may draw, without a screen.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.explain.overlay import color_table, no_matplotlib

COLUMN, TEXT_WIDTH = 3.3, 7.0  # inches: one column of a paper, and both
MARGIN, GAP = 0.06, 0.04
SMALL, TITLE, CAPTION = 6.0, 7.0, 7.0  # points
BAR = 0.09  # inches, the height of a colour bar
PICTURE_DPI = 300  # of the pictures inside a figure

# Fonts with Chinese, in the order of preference: those that systems bring first, then those that people install.
_CJK = (
    "Noto Sans SC",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
)
_AFTER = frozenset("/\\_-.,:;@=")  # where a long file name may be broken
_NOT_FIRST = frozenset("，。、；：！？）》」』】")  # no line begins with these


class Page:
    """A white figure of ``width`` inches: a body of ``height`` inches and the caption below it."""

    def __init__(self, width: float, height: float, caption: str) -> None:
        lines = wrapped(caption, width - 2 * MARGIN, CAPTION)

        from matplotlib.figure import Figure

        self.width, self.height = width, height + pitch(CAPTION, len(lines)) + 1.5 * MARGIN
        self.figure: Any = Figure((self.width, self.height), facecolor="white")
        if hasattr(self.figure, "set_layout_engine"):  # matplotlib 3.6 and later
            self.figure.set_layout_engine("none")  # whatever the user's matplotlibrc says
        # All pictures lie on one pair of axes, in inches: axes of their own take milliseconds each.
        self._sheet = self.axes(0.0, 0.0, self.width, self.height)
        self._sheet.set(xlim=(0.0, self.width), ylim=(self.height, 0.0), autoscale_on=False)
        self.figure.set_label(caption)  # save_figure makes it the file's title
        self.lines(MARGIN, height + MARGIN, lines, CAPTION)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        """Bare axes whose top left corner is at (x, y)."""
        axes = self.figure.add_axes(
            [x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height]
        )
        axes.set_axis_off()
        return axes

    def image(self, x: float, y: float, width: float, height: float, pixels: np.ndarray) -> None:
        """uint8 [H, W, 3] stretched over the rectangle."""
        extent = (x, x + width, y + height, y)
        self._sheet.imshow(pixels, aspect="auto", interpolation="antialiased", extent=extent)

    def lines(self, x: float, y: float, lines: Sequence[str], size: float, align: str = "left") -> None:
        """Lines of text, the first one's top at y; x is where they start, end or have their middle."""
        font = font_of("".join(lines))
        for number, line in enumerate(lines):
            self._write(x, y + pitch(size, number) + 0.95 * size / 72, line, font, size, ha=align, va="baseline")

    def upright(self, x: float, y: float, line: str, size: float, align: str = "center") -> None:
        """One line that reads upwards, x in its middle; y is its ``top`` or its ``center``."""
        self._write(x, y, line, font_of(line), size, ha="center", va=align, rotation=90)

    def color_bar(self, x: float, y: float, width: float, cmap: str, ends: Sequence[str], label: Sequence[str]) -> None:
        """The colours, ``ends`` evenly spaced below them, the lines of ``label`` below those (:func:`bar_height`)."""
        self.image(x, y, width, BAR, color_table(cmap)[None])
        for number, end in enumerate(ends):
            self.lines(x + width * number / (len(ends) - 1), y + BAR + 0.02, [end], SMALL, "center")
        self.lines(x + width / 2, y + BAR + 0.02 + pitch(SMALL), label, TITLE, "center")

    def _write(self, x: float, y: float, line: str, font: str, size: float, **where: Any) -> None:
        from matplotlib.font_manager import FontProperties

        self.figure.text(
            x / self.width,
            1 - y / self.height,
            drawable(line, font).replace("$", r"\$"),  # else two of them mean mathematics
            fontproperties=FontProperties(fname=font, size=size),
            color="black",
            usetex=False,
            **where,
        )


def bar_height(label: Sequence[str]) -> float:
    """Inches that :meth:`Page.color_bar` takes."""
    return BAR + 0.02 + pitch(SMALL) + pitch(TITLE, len(label))


def bar_ends(limits: tuple[float, float]) -> list[str]:
    """The numbers below a colour bar: its limits and their middle."""
    return [f"{number:.3g}" for number in (limits[0], sum(limits) / 2, limits[1])]


def pitch(size: float, lines: float = 1) -> float:
    """Inches that so many lines of text take."""
    return 1.25 * size / 72 * lines


def wrapped(text: str, width: float, size: float) -> list[str]:
    """The text in lines of at most ``width`` inches, broken at spaces or between Chinese characters, else anywhere."""
    lines: list[str] = []
    font = font_of(text)
    for paragraph in text.split("\n") if text else []:
        rest = printable(paragraph).strip()
        while True:
            fit = _fitting(rest, width, size, font)
            lines.append(rest[:fit].rstrip())
            rest = rest[fit:].lstrip()
            if not rest:
                break
    return lines


def text_width(text: str, size: float) -> float:
    """Inches that a line takes."""
    font = font_of(text)
    return sum(_advance(font, letter) for letter in drawable(text, font)) * size / 72


def printable(text: str) -> str:
    """The text in one line. Names of files may hold bytes that are no text, and control characters."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in text)


def font_of(text: str) -> str:
    """The file of the font that has most of the text's letters: matplotlib's own, or one with Chinese."""
    letters = {ord(letter) for letter in printable(text)}
    return min(_fonts(), key=lambda font: len(letters - _letters(font)))  # the first of those that are as good


def drawable(text: str, font: str) -> str:
    """The text in one line, a question mark in place of what the font has not."""
    known = _letters(font)
    return "".join(letter if ord(letter) in known else "?" for letter in printable(text))


def _fitting(text: str, width: float, size: float, font: str) -> int:
    """How many letters of the text go on its first line, at least one."""
    used, best, where = 0.0, 0, 0  # the best place to break: 2 at a space or a Chinese character, 1 within a name
    before = ""
    for place, (letter, drawn) in enumerate(zip(text, drawable(text, font))):
        if place and letter not in _NOT_FIRST:
            rank = 2 if " " in (letter, before) or max(letter, before) > "\u2e80" else int(before in _AFTER)
            if rank and rank >= best:
                best, where = rank, place
        used += _advance(font, drawn) * size / 72
        if used > width and letter != " ":
            return where if best else max(place, 1)
        before = letter
    return len(text)


@functools.lru_cache(maxsize=1)
def _fonts() -> tuple[str, ...]:
    """Files of fonts: matplotlib's own, then those installed that have Chinese."""
    try:
        from matplotlib import font_manager, get_data_path
    except ImportError as error:
        raise no_matplotlib() from error
    own = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    entries = [entry for entry in font_manager.fontManager.ttflist if entry.name in _CJK]

    def plain(entry: Any) -> tuple[bool, float]:  # of a family's weights, the regular one comes last
        return entry.style == "normal", -abs(font_manager.weight_dict.get(entry.weight, entry.weight) - 400)

    found = {entry.name: entry.fname for entry in sorted(entries, key=plain)}
    # matplotlib's list outlives fonts that were removed.
    return (str(own), *(found[name] for name in _CJK if name in found and Path(found[name]).is_file()))


@functools.lru_cache(maxsize=16)
def _letters(font: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font

    return frozenset(get_font(font).get_charmap())


@functools.lru_cache(maxsize=4096)
def _advance(font: str, letter: str) -> float:
    """The width of a letter, in the font's size, with the 4 % that whole pixels add to it in a small PNG."""
    from matplotlib.font_manager import get_font

    face = get_font(font)
    face.set_size(100, 72)
    return 1.04 * face.load_char(ord(letter)).linearHoriAdvance / 65536 / 100
