"""Is the exported model the model? Every written file is run and compared with the dygraph model, output by output.

Differences are relative to ``max(1, |value|)``. float32 files must agree to 1e-4, which is rounding over the depth of
the largest models; weights rounded to float16 move features of a trained DINOv2 by 8e-3, so 2e-2 is allowed there. int8
has no limit: how many images keep their class, and how many are right, is what it is judged by.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path

import numpy as np

from paddle_cait.deploy.isolation import import_openvino, silence
from paddle_cait.deploy.manifest import Artifact, Check, Manifest
from paddle_cait.deploy.reference import Reference
from paddle_cait.deploy.sessions import Session, open_session
from paddle_cait.errors import PaddleCaitError

LIMITS = {"fp32": 1e-4, "fp16": 2e-2, "int8": math.inf}
BATCHES = (1, 3, 8)
ENGINES = {"paddle": "paddle", "onnx": "onnxruntime", "openvino": "openvino"}
_FEW = 12  # images that also go through in the smaller batches

Runs = "dict[int, list[np.ndarray]]"  # batch size -> outputs


class VerificationError(PaddleCaitError):
    """An exported model that does not compute what the model computes. A command exits 1."""


def verify(folder: Path, manifest: Manifest, artifact: Artifact, reference: Reference) -> Check | None:
    """Run one artifact in its runtime; None if that is not installed. Raises :class:`VerificationError`."""
    engine = ENGINES[artifact.format]
    if importlib.util.find_spec(engine) is None:
        return None
    if engine == "openvino":
        import_openvino()
    plain = dataclasses.replace(manifest, settings={**manifest.settings, "onednn": False})
    with silence():
        session = open_session(folder, plain, engine, artifact.name, device="cpu")
        runs = run_batches(session, reference.samples.inputs(reference.dtype))
    check, worst = compare(runs, reference, engine, artifact.precision)
    if not within_limit(check):
        raise VerificationError(
            f"{artifact.name}, {session.describe()}: {worst}; the limit is {LIMITS[artifact.precision]:.0e}; "
            "nothing was written"
        )
    return check


def within_limit(check: Check) -> bool:
    """What is no number is never within it."""
    return math.isfinite(check.max_difference) and check.max_difference <= LIMITS[check.precision]


def run_batches(session: Session, images: np.ndarray) -> dict[int, list[np.ndarray]]:
    """Batch size -> outputs: all images in the largest batches, a few in the smaller ones, too few repeated."""
    runs = {}
    for size in BATCHES:
        chosen = images if size == BATCHES[-1] else images[:_FEW]
        if len(chosen) < size:
            chosen = np.resize(chosen, (size, *images.shape[1:]))
        # copies: a runtime may give its own buffers
        parts = [[np.array(o) for o in session(chosen[i : i + size])] for i in range(0, len(chosen), size)]
        runs[size] = [np.concatenate(column) for column in zip(*parts)]
    return runs


def compare(runs: dict[int, list[np.ndarray]], reference: Reference, engine: str, precision: str) -> tuple[Check, str]:
    """What :class:`Check` records, and the largest difference in words."""
    count = len(reference.samples)
    best = runs[BATCHES[-1]][0][:count].argmax(1)
    labels = reference.samples.labels
    worst = max(
        (*_difference(got, expected), name, size)
        for size, outputs in runs.items()
        for name, got, expected in zip(reference.names, outputs, reference.outputs)
    )
    difference, image, name, size = worst
    check = Check(
        engine=engine,
        precision=precision,
        images=count,
        batches=BATCHES,
        max_difference=difference,
        top1_equal=int((best == reference.outputs[0].argmax(1)).sum()),
        top1_correct=None if labels is None else int((best == labels).sum()),
        top1_correct_dygraph=reference.correct,
    )
    return check, f"{name} differ by {difference:.1e} from the model's (image {image}, batches of {size})"


def _difference(got: np.ndarray, expected: np.ndarray) -> tuple[float, int]:
    """(largest difference, its image); infinite for another shape or for what is no number."""
    expected = (
        np.resize(expected, (len(got), *expected.shape[1:])) if len(got) > len(expected) else expected[: len(got)]
    )
    if expected.ndim == 4 and got.ndim == 4:
        expected = expected[:, :, : got.shape[2]]  # of an attention map, the queries that are kept
    if got.shape != expected.shape:
        return math.inf, 0
    by_image = (np.abs(got - expected) / np.maximum(1, np.abs(expected))).reshape(len(got), -1).max(1)
    by_image = np.where(np.isfinite(by_image), by_image, np.inf)
    return float(by_image.max()), int(by_image.argmax())
