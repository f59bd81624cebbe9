"""Whether Paddle Inference may use oneDNN for an exported model: often twice as fast, sometimes wrong, slow or fatal.

Seen on Paddle 3.3.1: results off by 1% in one form of a model, a graph 100 times slower than without, processes that
ended (Paddle issue 77340). So it is tried in a process of its own, and the manifest says what a predictor is to do.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.deploy.isolation import run_python
from paddle_cait.deploy.manifest import MANIFEST, Artifact, Check, Manifest, read_manifest
from paddle_cait.deploy.reference import Reference
from paddle_cait.deploy.sessions import Session, open_session
from paddle_cait.deploy.verify import BATCHES, compare, run_batches, within_limit

ENGINE = "paddle-onednn"
_SLOWER = 1.1  # what is within a timing's noise of being faster

_TRY = """
from paddle_cait.deploy.one_dnn import try_one_dnn
try_one_dnn(*sys.argv[1:])
"""


def judge_one_dnn(
    folder: Path, manifest: Manifest, artifact: Artifact, reference: Reference, scratch: Path
) -> tuple[Check | None, str]:
    """The check of the Paddle model with oneDNN, if it is to be used; and in words why, or why not."""
    inputs, outputs = scratch / "inputs.npy", scratch / "one_dnn.npz"
    np.save(inputs, reference.samples.inputs(reference.dtype))
    dataclasses.replace(manifest, artifacts=(artifact,)).write(folder)
    try:
        done = run_python(_TRY, str(folder), str(inputs), str(outputs))
    finally:
        (folder / MANIFEST).unlink()
    if done.returncode or not outputs.is_file():
        return None, f"oneDNN ends the process (status {done.returncode}): not used"
    with np.load(outputs) as found:
        runs = {size: [found[f"{size}_{k}"] for k in range(len(reference.names))] for size in BATCHES}
        ratio = float(found["ratio"])
    check, worst = compare(runs, reference, ENGINE, artifact.precision)
    if not within_limit(check):
        return None, f"oneDNN is wrong ({worst}): not used"
    if ratio > _SLOWER:
        return None, f"oneDNN takes {ratio:.1f} times as long: not used"
    speed = f"takes {ratio:.2f} of the time" if ratio < 1 else "is about as fast"
    return check, f"oneDNN is right and {speed}: used"


def try_one_dnn(folder: str, inputs: str, outputs: str) -> None:
    """What the other process does: run with oneDNN, and time it beside Paddle without."""
    manifest = read_manifest(folder)
    images = np.load(inputs)
    with_it, without = (
        open_session(folder, dataclasses.replace(manifest, settings={"onednn": used}), "paddle", "paddle", device="cpu")
        for used in (True, False)
    )
    runs = run_batches(with_it, images)
    largest = images[: BATCHES[-1]]
    found: dict[str, Any] = {f"{size}_{k}": v for size, values in runs.items() for k, v in enumerate(values)}
    np.savez(outputs, ratio=_time_ratio(with_it, without, largest), **found)


def _time_ratio(session: Session, other: Session, images: np.ndarray) -> float:
    """How long one takes, the other being 1: medians of rounds in turn, over a second or so."""
    seconds: tuple[list[float], list[float]] = ([], [])
    started = time.perf_counter()
    while len(seconds[0]) < 4 or (time.perf_counter() - started < 1 and len(seconds[0]) < 100):
        for one, found in zip((session, other), seconds):
            before = time.perf_counter()
            one(images)
            found.append(time.perf_counter() - before)
    first, second = (float(np.median(found[1:])) for found in seconds)  # without the warm-up
    return first / second
