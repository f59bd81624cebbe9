"""What a run came to: which classes are confused, how it went, and what to do with the result."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.engine.metrics import Rows
from paddle_cait.files import write_atomic

_WORST = 5


@dataclass(frozen=True)
class ClassCount:
    name: str
    correct: int
    n: int
    taken_for: str  # the class its mistakes are most often taken for, or ""

    def line(self) -> str:
        mistaken = f", most often taken for {self.taken_for}" if self.taken_for else ""
        return f"{self.name}: {self.correct} of {self.n} right{mistaken}"


def confusion(rows: Rows, classes: int) -> np.ndarray:
    """int64 [classes, classes]: images of the row's class that were taken for the column's."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (rows.label, rows.top[:, 0]), 1)
    return table


def by_class(table: np.ndarray, names: Sequence[str]) -> list[ClassCount]:
    """The classes that have images, the worst first."""
    found = []
    for label, name in enumerate(names):
        n, correct = int(table[label].sum()), int(table[label, label])
        mistakes = table[label].copy()
        mistakes[label] = 0
        if n:
            found.append(ClassCount(name, correct, n, names[int(mistakes.argmax())] if mistakes.any() else ""))
    return sorted(found, key=lambda one: (one.correct / one.n, -one.n))


def write_summary(
    folder: Path, names: Sequence[str], rows: Rows, history: Sequence[dict[str, Any]], about: dict[str, Any]
) -> list[str]:
    """``summary.json``, ``confusion.csv`` and, where matplotlib is installed, ``curves.png`` and ``confusion.png``.
    Returns lines for the user.

    ``about``: what else the JSON holds; ``unreadable`` in it: path -> message, of the images that were left out.
    """
    table = confusion(rows, len(names))
    classes = by_class(table, names)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["right \\ taken for", *names])
    writer.writerows([name, *table[label].tolist()] for label, name in enumerate(names))
    write_atomic(folder / "confusion.csv", text.getvalue().encode())
    content = {**about, "classes": [vars(one) for one in classes], "history": list(history)}
    data = json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")  # odd paths
    write_atomic(folder / "summary.json", data + b"\n")
    pictures = _draw(folder, names, table, history)
    lines = [f"  {one.line()}" for one in classes[:_WORST] if one.correct < one.n]
    lines = ["worst classes:", *lines] if lines else ["no mistakes"]
    unreadable = about.get("unreadable")
    if unreadable:
        first = sorted(unreadable)[0].encode("utf-8", "backslashreplace").decode()
        lines.append(f"{len(unreadable)} images could not be read and were left out, the first is {first}")
    return [*lines, f"wrote summary.json, confusion.csv{', curves.png, confusion.png' if pictures else ''}"]


def _draw(folder: Path, names: Sequence[str], table: np.ndarray, history: Sequence[dict[str, Any]]) -> bool:
    """The curves and the table as pictures; False where there is no matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False

    def save(figure: Any, name: str) -> None:
        image = io.BytesIO()
        FigureCanvasAgg(figure).print_png(image)
        write_atomic(folder / name, image.getvalue())

    epochs = [row["epoch"] for row in history]
    figure = Figure((8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["train_loss"] for row in history], ".-", label="training (augmented)")
    left.plot(epochs, [row["val_loss"] for row in history], ".-", label="validation")
    right.plot(epochs, [row["val_top1"] for row in history], ".-", color="tab:green")
    for axes, title in ((left, "loss"), (right, "validation top-1, %")):
        axes.set(xlabel="epoch", title=title)
        axes.grid(alpha=0.3)
    left.legend()
    save(figure, "curves.png")
    side = min(12.0, 2.5 + 0.3 * len(names))
    figure = Figure((side, side), layout="constrained")
    axes = figure.subplots()
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="taken for", ylabel="right")
    if len(names) <= 40:
        shown = _drawable(names)
        axes.set_xticks(range(len(names)), shown, rotation=90)
        axes.set_yticks(range(len(names)), shown)
    if len(names) <= 15:
        for i, j in np.ndindex(table.shape):
            if table[i, j]:
                axes.text(j, i, str(table[i, j]), ha="center", va="center", color="w" if shares[i, j] > 0.5 else "k")
    save(figure, "confusion.png")
    return True


def _drawable(names: Sequence[str]) -> list[str]:
    """The names, with the label in place of one that matplotlib's font cannot show (Chinese in its own font)."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    readable = (all(ord(letter) in known for letter in name) for name in names)
    return [name.replace("$", r"\$") if good else str(label) for label, (name, good) in enumerate(zip(names, readable))]
