"""Who works when, and what comes of it: one engine at a time, in turn, each round beginning with another one.

A machine's speed drifts, so engines are compared round by round: a ratio is the median over rounds of one engine's
speed over the other's in the same round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paddle_cait.bench.cases import Case
from paddle_cait.bench.channel import Channel, WorkerError
from paddle_cait.bench.check import Agreement

OK, REFUSED, FAILED, LEFT_OUT = "ok", "refused", "failed", "left out"

# Seconds between two engines' turns: OpenMP's threads spin for up to 0.2 s after their work, and would take the cores
# from whoever is next. (KMP_BLOCKTIME=0 keeps them from it, but then the engine is not timed as its users run it.)
REST = 0.3


@dataclass
class Row:
    """One case at one batch size. ``rounds``: the seconds of each step, round by round."""

    case: Case
    batch: int
    status: str = OK
    reason: str = ""
    images: int = 1
    rounds: list[list[float]] = field(default_factory=list)
    agreement: Agreement | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    peak_mb: float = 0.0
    idle: list[float] = field(default_factory=list)  # CPU seconds that it used between two turns: it should sleep
    cpu: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.case.label} {self.case.precision}"

    def stop(self, status: str, reason: str) -> None:
        self.status, self.reason = status, reason

    @property
    def speeds(self) -> list[float]:
        """Images a second, by round."""
        return [self.images * len(spent) / sum(spent) for spent in self.rounds]

    @property
    def speed(self) -> float:
        return statistics.median(self.speeds) if self.rounds else 0.0

    @property
    def spread(self) -> float:
        return max(self.speeds) / min(self.speeds) if self.rounds else 1.0

    def latency_ms(self, percent: float) -> float:
        """Of a step, over all rounds."""
        return float(np.percentile([1e3 * seconds for spent in self.rounds for seconds in spent], percent))


@dataclass(frozen=True)
class Running:
    row: Row
    worker: Channel

    def turn(self, seconds: float) -> None:
        """One round's work."""
        answer = self.worker.ask({"do": "run", "seconds": seconds})
        self.row.rounds.append(answer["seconds"])
        self.row.peak_mb = answer["peak_mb"]
        self.row.idle.append(answer["idle"])
        self.row.cpu = answer["cpu"]


def interleave(
    running: Sequence[Running], rounds: int, seconds: float, progress: Callable[[Any], Iterable[Any]] = iter
) -> None:
    """Give everyone a turn in each round. Whoever dies is a row with its reason, and the rest goes on."""
    for number in progress(range(rounds)):
        for place in range(len(running)):
            one = running[(number + place) % len(running)]
            if one.row.status != OK:
                continue
            time.sleep(REST)
            try:
                one.turn(seconds)
            except WorkerError as error:
                one.row.stop(FAILED, str(error))


def ratio(row: Row, other: Row) -> float | None:
    """How many times as fast as another row, in the median of the rounds that both have worked."""
    pairs = list(zip(row.speeds, other.speeds))
    return statistics.median(mine / theirs for mine, theirs in pairs) if pairs else None


def best(rows: Iterable[Row]) -> Row | None:
    """The fastest of those that finished."""
    fit = [row for row in rows if row.status == OK and row.rounds]
    return max(fit, key=lambda row: row.speed, default=None)
