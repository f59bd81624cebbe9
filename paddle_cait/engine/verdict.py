"""Does a measured accuracy agree with the published one? PASS, FAIL, or NOT COMPARABLE with the reason."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddle_cait.presets import Preprocess, Published

if TYPE_CHECKING:
    from paddle_cait.engine.evaluate import EvalResult

PASS, FAIL, NOT_COMPARABLE = "PASS", "FAIL", "NOT COMPARABLE"


@dataclass(frozen=True)
class Verdict:
    """``status`` is PASS, FAIL or NOT COMPARABLE; ``reason`` says why in one line; ``difference`` is in points."""

    status: str
    reason: str
    difference: float | None = None

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


def judge(result: EvalResult, published: Published | None) -> Verdict:
    """PASS when all ``published.n`` images were evaluated under the number's own preprocessing and top-1 is within its
    tolerance; FAIL when it lies outside, on either side; NOT COMPARABLE when the numbers are of different things."""
    if published is None:
        return Verdict(NOT_COMPARABLE, "no accuracy was published for these weights")
    obstacles = list(_obstacles(result, published))
    if obstacles:
        return Verdict(NOT_COMPARABLE, "; ".join(obstacles))
    difference = result.top1 - published.top1
    measured = f"top-1 {result.top1:.3f} ({result.top1_correct}/{result.n})"
    number = f"{published.top1:g} ({published.source})"
    if abs(difference) <= published.tolerance + 1e-9:
        return Verdict(PASS, f"{measured} is within {published.tolerance:g} of the published {number}", difference)
    side = "above" if difference > 0 else "below"
    return Verdict(
        FAIL,
        f"{measured} is {abs(difference):.3f} points {side} the published {number}; the tolerance is "
        f"{published.tolerance:g}: {published.tolerance_reason}",
        difference,
    )


def _obstacles(result: EvalResult, published: Published) -> list[str]:
    found = []
    if result.skipped:
        found.append(f"{len(result.skipped)} unreadable images were skipped")
    if result.n + len(result.skipped) != published.n:
        found.append(f"{result.n:,} images were evaluated, the published number is over {published.n:,}")
    if result.preprocess is None:
        found.append("the dataset does not say how its images were prepared")
    else:
        found.extend(_differences(result.preprocess, published.preprocess))
    if result.backend not in ("pillow", None):
        found.append(f"images were resized with {result.backend}, whose pixels differ from Pillow's")
    if not result.weights_sha256:
        found.append("no weights were loaded")
    return found


def _differences(ours: Preprocess, theirs: Preprocess) -> list[str]:
    return [
        f"{field.name} is {getattr(ours, field.name)}, the published number used {getattr(theirs, field.name)}"
        for field in dataclasses.fields(Preprocess)
        if getattr(ours, field.name) != getattr(theirs, field.name)
    ]
