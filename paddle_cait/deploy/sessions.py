"""An exported folder as a function: images of a batch -> outputs, in whichever runtime is installed.

Needs numpy and the runtime, nothing else: Paddle is imported only to run Paddle Inference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait import runtime
from paddle_cait.deploy.manifest import MANIFEST, Artifact, Manifest
from paddle_cait.deploy.runtimes import (
    CAPABILITIES,
    ENGINES,
    PACKAGES,
    Capability,
    Options,
    Run,
    is_there,
    open_runtime,
)
from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.files import PathLike, sha256_file

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
# What a runtime computes in -> the weights it needs. bfloat16 is rounded to while computing.
_WEIGHTS = {"fp32": "fp32", "bf16": "fp32", "fp16": "fp16", "int8": "int8"}


class Session:
    """``session(images) -> outputs``, float32 arrays in the manifest's order, for batches of any size.

    ``engine`` is ``paddle``, ``onnxruntime``, ``openvino``. ``precision`` is ``fp32``, ``bf16`` (arithmetic), ``fp16``
    (weights; a CPU multiplies them in float32), ``int8``. ``settings`` names all else that a result depends on.
    ``manifest``: of the folder, ``artifact``: the files that are run, ``run``: the runtime's own call on them.
    """

    def __init__(self, manifest: Manifest, artifact: Artifact, run: Run, settings: dict[str, Any]) -> None:
        self.manifest = manifest
        self.artifact = artifact
        self.engine: str = settings["engine"]
        self.precision: str = settings["precision"]
        self.settings = settings
        self._run = run

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """float32 [B, 3, H, W], or where ``manifest.input_dtype`` says so uint8 [B, H, W, 3] -> the outputs.

        Raises :class:`PaddleCaitError` for images of another type or shape than the model was exported for.
        """
        height, width = self.manifest.img_size
        uint8 = self.manifest.input_dtype == "uint8"
        shape = (height, width, 3) if uint8 else (3, height, width)
        if images.dtype != self.manifest.input_dtype or images.shape[1:] != shape or not len(images):
            raise PaddleCaitError(
                f"images are {images.dtype} {list(images.shape)}, expected {self.manifest.input_dtype} "
                f"[B, {', '.join(map(str, shape))}]"
            )
        outputs = self._run(np.ascontiguousarray(images))
        if len(outputs) != len(self.manifest.outputs):
            raise PaddleCaitError(
                f"{self.artifact.entry}: gives {len(outputs)} outputs, expected {', '.join(self.manifest.outputs)}; "
                "export again"
            )
        return [np.asarray(output, np.float32) for output in outputs]

    def describe(self) -> str:
        """One line for logs."""
        s = self.settings
        one_dnn = f", oneDNN {'on' if s['onednn'] else 'off'}" if "onednn" in s else ""
        threads = f"{s['threads']} thread{'' if s['threads'] == 1 else 's'}"
        return f"{s['engine']} {s['version']}, {s['precision']}, {threads} on {s['device']}{one_dnn}"

    def __repr__(self) -> str:
        return f"<{self.manifest.model}: {self.describe()}>"


def open_session(
    folder: PathLike,
    manifest: Manifest,
    engine: str | None = None,
    artifact: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Session:
    """Open an exported folder.

    Args:
        folder: what ``paddle-cait export`` wrote.
        manifest: what its ``EXPORT.json`` says (``deploy.manifest.read_manifest``).
        engine: ``openvino``, ``onnxruntime`` or ``paddle``; None takes the fastest that is installed and opens what the
            folder holds.
        artifact: ``onnx``, ``openvino:int8``, ...: which files; None takes what the engine likes best.
        device: ``auto`` (a GPU if an installed runtime sees one), ``cpu``, ``gpu``, ``gpu:1``.
        threads: of the CPU; None: OMP_NUM_THREADS, or all cores.
        precision: None: the artifact's, which is fp32 unless another one was asked for.

    Raises :class:`ConfigError` for words other than these and for what a runtime does not do, :class:`PaddleCaitError`
    for what the folder does not hold or is not installed, and for files that are not those that were exported.
    """
    for name, value, known in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in (None, *known):
            raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(known)}")
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "gpu") or (number and (kind != "gpu" or not number.isdigit())):
        raise ConfigError(f"device is {device!r}, expected auto, cpu, gpu or gpu:NUMBER")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}, expected 1 or more")
    files = _artifact(folder, manifest, artifact)
    chosen, files = _choose(folder, manifest, engine, files, kind, precision)
    options = Options(
        device="cpu" if chosen.device == "cpu" else f"gpu:{number or 0}",
        threads=threads or default_threads(),
        precision=precision or files.precision,
        one_dnn=manifest.settings.get("onednn"),
    )
    check_files(Path(folder), files)
    return Session(manifest, files, *open_runtime(chosen.engine, Path(folder), files, options))


def check_files(folder: Path, artifact: Artifact) -> None:
    """The files must be those that were exported: Paddle 2.6 ends the whole process on a damaged one."""
    for name, told in artifact.files.items():
        found = sha256_file(folder / name)
        if found != told:
            raise PaddleCaitError(
                f"{folder / name}: is not the file that was exported (its sha256 begins {found[:16]}, {MANIFEST} says "
                f"{told[:16]}); export again"
            )


def default_threads() -> int:
    """OMP_NUM_THREADS, or as many as this process may use cores."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told):
        return int(told)
    return runtime.cores()


def _artifact(folder: PathLike, manifest: Manifest, name: str | None) -> Artifact | None:
    found = manifest.artifact(name) if name else None
    if name and found is None:
        raise PaddleCaitError(f"{folder}: holds no {name!r} but {_names(manifest)}; export it too (--formats {name})")
    return found


def _choose(
    folder: PathLike, manifest: Manifest, engine: str | None, asked: Artifact | None, device: str, precision: str | None
) -> tuple[Capability, Artifact]:
    """The first runtime that fits what is asked, and the files it opens."""
    known = [r for r in CAPABILITIES if engine in (None, r.engine) and device in ("auto", r.device)]
    if not known:
        raise ConfigError(f"{engine} does not compute on a {device.upper()} here: use --device cpu")
    able = [r for r in known if precision in (None, *r.precisions)]
    if not able:
        does = ", ".join(dict.fromkeys(p for r in known for p in r.precisions))
        others = dict.fromkeys(r.engine for r in CAPABILITIES if precision in r.precisions)
        raise ConfigError(
            f"{engine or 'a runtime'} on this device computes in {does}, not in {precision}: "
            f"that is what {', '.join(others)} does on a CPU"
        )
    fitting = [(r, files) for r in able for files in _opened_by(r, manifest, asked, precision)]
    if not fitting:
        raise PaddleCaitError(_why_not(folder, manifest, engine, asked, precision, able))
    there = next(((r, files) for r, files in fitting if is_there(r)), None)
    if there is None:
        names = list(dict.fromkeys(r.engine for r, _ in fitting if device != "auto" or r.device == "cpu"))
        where = " with a GPU" if device == "gpu" else ""
        installs = " or ".join(f"`pip install {_package(name, device)}`" for name in names)
        raise PaddleCaitError(f"{folder}: {' and '.join(names)} cannot be used here{where}: {installs}")
    return there


def _opened_by(
    known: Capability, manifest: Manifest, asked: Artifact | None, precision: str | None
) -> Iterator[Artifact]:
    """The artifacts that a runtime can open for what is asked; the best first."""
    weights = _WEIGHTS[precision or (asked.precision if asked else "fp32")]
    for form in known.formats:
        for files in manifest.artifacts:
            if files.format == form and files.precision == weights and asked in (None, files):
                yield files


def _why_not(
    folder: PathLike,
    manifest: Manifest,
    engine: str | None,
    asked: Artifact | None,
    precision: str | None,
    able: list[Capability],
) -> str:
    weights = _WEIGHTS[precision or (asked.precision if asked else "fp32")]
    formats = dict.fromkeys(form for r in able for form in r.formats)
    wanted = " or ".join(form if weights == "fp32" else f"{form}:{weights}" for form in formats)
    held = f"{asked.name!r} was asked for" if asked else f"it holds {_names(manifest)}"
    return (
        f"{folder}: {engine or 'any runtime'} in {precision or weights} opens {wanted}, but {held}; export what is "
        "missing (`paddle-cait export --formats ...`) or ask for another engine, artifact or precision"
    )


def _names(manifest: Manifest) -> str:
    return ", ".join(files.name for files in manifest.artifacts) or "nothing"


def _package(engine: str, device: str) -> str:
    return next((name for name in PACKAGES[engine] if name.endswith("-gpu") == (device == "gpu")), engine)
