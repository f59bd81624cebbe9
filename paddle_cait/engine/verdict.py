"""Does a measured accuracy agree with the published one? PASS, FAIL, or NOT COMPARABLE with the reason."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddle_cait.data.label_sets import UNNAMED, comparable
from paddle_cait.presets import Preprocess, Published

if TYPE_CHECKING:
    from paddle_cait.engine.evaluate import EvalResult
    from paddle_cait.engine.knn import KnnResult

PASS, FAIL, NOT_COMPARABLE = "PASS", "FAIL", "NOT COMPARABLE"

RECOMMENDED_K = 20  # "usually the best" to DINO's authors, who do not say which k their table uses
KNN_TEMPERATURE = 0.07
IMAGENET_TRAIN, IMAGENET_VAL = 1_281_167, 50_000


@dataclass(frozen=True)
class Verdict:
    """``status`` is PASS, FAIL or NOT COMPARABLE; ``reason`` says why in one line.

    ``difference``: measured less published top-1, in points; None where they do not compare.
    """

    status: str
    reason: str
    difference: float | None = None

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


def judge(
    result: EvalResult, published: Published | None, others: Mapping[str, Published | None] | None = None
) -> Verdict:
    """Does ``result`` agree with ``published``?

    PASS when all ``published.n`` images were evaluated under the number's own labels and preprocessing and top-1 is
    within its tolerance; FAIL when it lies outside, on either side; NOT COMPARABLE when the numbers are of different
    things, or none was published (None). ``others`` are the numbers of weights that the file might be instead, by name:
    one that agrees is named.
    """
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
        f"{published.tolerance:g}: {published.tolerance_reason}{_agreeing(result, others or {})}",
        difference,
    )


def _agreeing(result: EvalResult, others: Mapping[str, Published | None]) -> str:
    """Whose number it is, if not the one it was taken for."""
    names = [
        f"{name} ({number.top1:g})"
        for name, number in others.items()
        if number and not list(_obstacles(result, number)) and abs(result.top1 - number.top1) <= number.tolerance + 1e-9
    ]
    return f"; it agrees with {' and '.join(names)}: are these its weights?" if names else ""


def _obstacles(result: EvalResult, published: Published) -> list[str]:
    found = []
    if not comparable(result.label_set, published.dataset):
        ours = "images of no known set" if result.label_set == UNNAMED else result.label_set
        found.append(f"the evaluation is over {ours}, the published number over {published.dataset}")
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
    found.extend(result.weights_notes)
    return found


def _differences(ours: Preprocess, theirs: Preprocess) -> list[str]:
    return [
        f"{field.name} is {getattr(ours, field.name)}, the published number used {getattr(theirs, field.name)}"
        for field in dataclasses.fields(Preprocess)
        if getattr(ours, field.name) != getattr(theirs, field.name)
    ]


def judge_knn(result: KnnResult, published: Published | None) -> Verdict:
    """As :func:`paddle_cait.engine.verdict.judge`, for a ``published`` number whose k is not known: PASS when the top-1
    of ``result`` agrees at the recommended k = 20 or at the best k, otherwise the verdict of the best k."""
    tried = [k for k in dict.fromkeys((RECOMMENDED_K, result.best_k)) if k in result.rows]
    verdicts = {k: judge(_measured(result, k), published) for k in tried}
    k = next((k for k in tried if verdicts[k].status == PASS), result.best_k)
    verdict = verdicts[k]
    obstacles = list(_knn_obstacles(result, published)) if published else []
    if verdict.status == NOT_COMPARABLE or obstacles:
        reasons = [verdict.reason] if verdict.status == NOT_COMPARABLE else []
        return Verdict(NOT_COMPARABLE, "; ".join(reasons + obstacles))
    which = "recommended" if k == RECOMMENDED_K else f"the best of {', '.join(map(str, sorted(result.rows)))}"
    reason = f"k = {k} ({which}; the published number does not name its k): {verdict.reason}"
    return Verdict(verdict.status, reason, verdict.difference)


def _measured(result: KnnResult, k: int) -> Any:
    """The result with one k, as a verdict looks at it."""
    return types.SimpleNamespace(**{**vars(result), **result.counts(k)})


def _knn_obstacles(result: KnnResult, published: Published) -> Iterator[str]:
    train = result.train
    if published.protocol != "knn":
        yield f"the published number is of the protocol {published.protocol}"
    if result.temperature != KNN_TEMPERATURE:
        yield f"the temperature is {result.temperature:g}, the published number used {KNN_TEMPERATURE:g}"
    if train["skipped"]:
        yield f"{len(train['skipped'])} unreadable train images were skipped"
    elif published.n == IMAGENET_VAL and train["n"] != IMAGENET_TRAIN:
        yield f"{train['n']:,} train images voted, the published number used all {IMAGENET_TRAIN:,}"
