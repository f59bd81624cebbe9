"""Hundreds of tensor names in one readable line, with nothing lost."""

from __future__ import annotations

import re
from collections.abc import Iterable


def compact(names: Iterable[str]) -> str:
    """Names in one line with nothing lost: ``blocks.{0-11}.norm1.{bias,weight}`` for twenty-four of them."""
    groups: dict[str, list[int]] = {}
    for name in names:
        head, number, tail = _first_number(str(name))
        groups.setdefault(f"{head}#{tail}" if number is not None else str(name), []).append(number or 0)
    tails: dict[tuple[str, str], list[str]] = {}
    for pattern, numbers in groups.items():
        text = pattern.replace("#", _ranges(numbers), 1) if "#" in pattern else pattern
        stem, _, leaf = text.rpartition(".")
        tails.setdefault((stem, ""), []).append(leaf)
    parts = []
    for (stem, _), leaves in tails.items():
        leaf = leaves[0] if len(leaves) == 1 else "{" + ",".join(leaves) + "}"
        parts.append(f"{stem}.{leaf}" if stem else ", ".join(leaves))
    return ", ".join(parts)


def grouped(lines: list[str]) -> list[str]:
    """Messages about numbered tensors, one for each that differs in more than the number."""
    groups: dict[tuple[str, str], list[int]] = {}
    for line in lines:
        head, number, tail = _first_number(line)
        groups.setdefault((head, tail), []).append(-1 if number is None else number)
    return [head + (_ranges(numbers) if numbers != [-1] else "") + tail for (head, tail), numbers in groups.items()]


def _first_number(name: str) -> tuple[str, int | None, str]:
    """``blocks.3.norm`` -> (``blocks.``, 3, ``.norm``): the number of a layer in a list, not digits within a word."""
    found = re.match(r"([^\d\s]*\.)(\d+)(\..*)", name)
    return (found.group(1), int(found.group(2)), found.group(3)) if found else (name, None, "")


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> ``{0-2,5}``; a single number stays itself."""
    ordered = sorted(numbers)
    runs: list[list[int]] = []
    for number in ordered:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(f"{a}-{b}" if a != b else str(a) for a, b in runs)
    return text if len(ordered) == 1 else "{" + text + "}"
