"""``export``: a model as a folder that a runtime serves, verified against the model before it appears."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from paddle_cait.deploy.class_names import names_of
from paddle_cait.deploy.formats import Format, parse_formats
from paddle_cait.deploy.job import Job
from paddle_cait.deploy.labels import LABELS
from paddle_cait.deploy.manifest import Artifact, Check, Manifest
from paddle_cait.deploy.one_dnn import judge_one_dnn
from paddle_cait.deploy.onnx_format import check_size
from paddle_cait.deploy.reference import Reference
from paddle_cait.deploy.staging import check_target, staged
from paddle_cait.deploy.verify import ENGINES, verify
from paddle_cait.deploy.writer import Writer
from paddle_cait.errors import DataError, PaddleCaitError
from paddle_cait.files import PathLike

log = logging.getLogger("paddle_cait")


def export(
    model: Any,
    out_dir: PathLike,
    formats: Sequence[str] | None = None,
    *,
    outputs: Sequence[str] = ("logits",),
    uint8_input: bool = False,
    class_names: PathLike | Sequence[str] | None = None,
    verify_dir: PathLike | None = None,
    verify_list: PathLike | None = None,
    verify_images: int = 16,
    calib_dir: PathLike | None = None,
    calib_images: int = 300,
    overwrite: bool = False,
) -> Manifest:
    """Write ``model`` (of :func:`paddle_cait.create_model`) to ``out_dir`` and return what its ``EXPORT.json`` says.

    The model is folded (:func:`paddle_cait.fuse`) for each runtime; ``model`` itself is left as it is. Every file is
    run in its runtime, on the CPU, and compared with ``model``; ``out_dir`` appears only if all agree.

    Args:
        formats: some of ``paddle``, ``onnx``, ``openvino``, and with fewer bits ``onnx:int8``, ``openvino:fp16``,
            ``openvino:int8``. None: of the first three those whose packages are installed
            and that take a model of this size.
        outputs: ``logits``, then if wanted ``features`` [B, C] and ``attention`` [B, heads, queries, keys]. A model
            without classes gives ``features`` in place of ``logits``.
        uint8_input: take pixels [B, H, W, 3] after resize and crop; mean and deviation are folded in.
        class_names: in the order of the labels, a list, or a file with one a line; ImageNet's by default for 1,000
            classes.
        verify_dir: photographs to verify with, ``verify_images`` of them; None draws random ones. ``verify_list``: a
            list file ``PATH LABEL`` of that folder, to count right answers too.
        calib_dir: photographs, ``calib_images`` of them, from which int8 takes its ranges.
        overwrite: replace an earlier export; anything else at ``out_dir`` is refused.

    Raises :class:`VerificationError` if a file computes something else; :class:`ConfigError` for formats and outputs
    other than these and an ``out_dir`` that is taken, :class:`DataError` for photographs and names,
    :class:`PaddleCaitError` for what is not installed or cannot be written.
    """
    wanted = parse_formats(formats)
    target = check_target(out_dir, overwrite)
    job = _job(model, outputs, uint8_input, class_names)
    wanted = [form for form in wanted if _fits(form, job.num_bytes, asked=formats is not None)]
    calibration = job.calibration(wanted, calib_dir, calib_images)
    samples = job.samples(verify_dir, verify_list, verify_images)
    reference = Reference.of(model, samples, job.names, job.dtype)
    with staged(target) as (folder, scratch):
        manifest = job.manifest(samples, calibration)
        if job.labels:
            (folder / LABELS).write_text("".join(f"{name}\n" for name in job.labels), encoding="utf-8")
        writer = Writer(job, manifest, folder, scratch, calibration)
        for form in wanted:
            artifact = writer.write(form)
            manifest = replace(manifest, artifacts=(*manifest.artifacts, artifact))
            manifest = _verified(folder, scratch, manifest, artifact, reference)
        manifest.write(folder)
    return manifest


def _fits(form: Format, num_bytes: int, asked: bool) -> bool:
    """Whether the format takes a model of this size; an error if not and it was asked for."""
    try:
        if form.format != "paddle":
            check_size(num_bytes, form.name)
    except PaddleCaitError as error:
        if asked:
            raise
        log.info("%s is left out: %s", form.name, error)
        return False
    return True


def _job(model: Any, outputs: Sequence[str], uint8_input: bool, names: PathLike | Sequence[str] | None) -> Job:
    """With names from a list, which must fit into a file with one a line."""
    if names is None or isinstance(names, (str, os.PathLike)):
        return Job.of(model, outputs, uint8_input, names)
    job = replace(Job.of(model, outputs, uint8_input, None), labels=names_of(names, model.num_classes))
    broken = next((name for name in names if not name.strip() or name.splitlines() != [name]), None)
    if broken is not None:
        raise DataError(f"class_names: {broken!r} is no name, expected a line of text")
    return job


def _verified(folder: Path, scratch: Path, manifest: Manifest, artifact: Artifact, reference: Reference) -> Manifest:
    """The manifest with the checks of its last artifact, and with what they found out."""
    check = verify(folder, manifest, artifact, reference)
    if check is None:
        why = f"{ENGINES[artifact.format]} is not installed"
        log.warning("%s: NOT VERIFIED: %s", artifact.name, why)
        skipped = {**manifest.settings.get("not_verified", {}), artifact.name: why}
        return replace(manifest, settings={**manifest.settings, "not_verified": skipped})
    log.info("%s: verified on %s", artifact.name, describe(check))
    checks, settings = [check], dict(manifest.settings)
    if artifact.format == "paddle":
        found, why = judge_one_dnn(folder, manifest, artifact, reference, scratch)
        log.info("%s: %s", artifact.name, why)
        settings.update(onednn=found is not None, onednn_note=why)
        checks += [found] if found else []
    verified = replace(artifact, checks=tuple(checks))
    return replace(manifest, artifacts=(*manifest.artifacts[:-1], verified), settings=settings)


def describe(check: Check) -> str:
    """``onnxruntime, max difference 1.2e-06, top-1 equal on 16 of 16``."""
    text = f"{check.engine}, max difference {check.max_difference:.1e}"
    text += f", top-1 equal on {check.top1_equal} of {check.images}"
    if check.top1_correct is not None:
        text += f", right on {check.top1_correct} (the model itself on {check.top1_correct_dygraph})"
    return text
