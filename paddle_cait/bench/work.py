"""What a worker process does: a step that is timed, and a result that proves it is the right one."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]

IMAGES, EXPECTED, STATE = "images.npy", "expected.npy", "state.npz"  # in the folder that every worker reads


@dataclass(frozen=True)
class Work:
    """``step`` takes ``images`` images; ``check`` gives what must equal the reference."""

    step: Callable[[], Any]
    check: Callable[[], np.ndarray]
    images: int
    settings: dict[str, Any] = field(default_factory=dict)


def inference(run: Run, spec: dict[str, Any], settings: dict[str, Any]) -> Work:
    """float32 arrays [batch, 3, H, W] in, float32 logits out, whatever the engine does in between."""
    images = np.load(Path(spec["folder"]) / IMAGES)
    size, count = spec["batch"], len(images)
    places = np.arange(-(-count // size) * size) % count  # whole batches; the last one begins anew
    batches = [np.ascontiguousarray(images[places[i : i + size]]) for i in range(0, len(places), size)]
    turn = itertools.cycle(batches)
    return Work(
        step=lambda: run(next(turn)),
        check=lambda: np.concatenate([np.array(run(batch), np.float32) for batch in batches])[:count],
        images=size,
        settings=settings,
    )


def measure(step: Callable[[], Any], seconds: float) -> list[float]:
    """The seconds of each step, for as long as asked and twice at least.

    A step goes before that is not timed: this process has slept, its threads and its memory are cold.
    """
    step()
    spent: list[float] = []
    started = before = time.perf_counter()
    while before - started < seconds or len(spent) < 2:
        step()
        after = time.perf_counter()
        spent.append(after - before)
        before = after
    return spent
