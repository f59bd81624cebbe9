"""An exported folder as evaluation takes a model: the same images, counts and verdict as for the checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paddle_cait.data.transforms import EvalTransform, PixelTransform
from paddle_cait.deploy.manifest import read_manifest
from paddle_cait.deploy.sessions import Session, open_session
from paddle_cait.errors import ConfigError, PaddleCaitError, PresetError
from paddle_cait.files import PathLike
from paddle_cait.presets import Preset, get_preset

_CPU_BATCH = 8  # 64 at once took a quarter more time (cait_xxs24_224 in OpenVINO and onnxruntime, one thread)


@dataclass(frozen=True)
class SourceWeights:
    """The checkpoint that was exported, as ``EXPORT.json`` names it."""

    path: str
    sha256: str
    notes: list[str] = field(default_factory=list)


class ExportedModel:
    """Images -> logits in a session's runtime, and all that a report says of it; see :func:`load_exported`.

    ``session`` computes; ``files``: name -> sha256 of what is run; ``preset``: None where the model is not known. The
    other attributes are those of an :class:`Engine`. Raises :class:`PaddleCaitError` for an export without logits.
    """

    def __init__(self, session: Session, preset: Preset | None) -> None:
        manifest = session.manifest
        if not manifest.classifies:
            raise PaddleCaitError(f"{manifest.model}: gives {', '.join(manifest.outputs)}, expected logits to count")
        self.session, self.preset, self.files = session, preset, session.artifact.files
        self.label, self.num_classes, self.img_size = manifest.model, manifest.num_classes, manifest.img_size
        self.preprocess = manifest.preprocess
        found = manifest.weights
        sha256 = str(found.get("sha256") or "")
        self.load_report = SourceWeights(str(found.get("file") or ""), sha256, list(found.get("notes") or []))
        self.engine, self.precision = session.engine, session.precision
        self.device, self.settings = str(session.settings["device"]), session.settings

    def adapt(self, transform: EvalTransform) -> EvalTransform:
        """Raises :class:`ConfigError` for a preparation that an exported model cannot take."""
        size = (transform.preprocess.img_size,) * 2
        if size != self.img_size:
            exported = "x".join(map(str, self.img_size))
            raise ConfigError(f"img_size is {size[0]}, {self.label} was exported for {exported}: export it anew")
        if self.session.manifest.input_dtype != "uint8":
            return transform
        own = self.preprocess
        if own is None or (transform.preprocess.mean, transform.preprocess.std) != (own.mean, own.std):
            raise ConfigError(
                f"{self.label} was exported with its mean and deviation folded in: they cannot be changed"
            )
        return PixelTransform(transform.preprocess, transform.backend)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Nothing is to be made ready."""
        yield

    def __call__(self, images: Any) -> np.ndarray:
        """A batch as the session takes it (numpy or ``paddle.Tensor``) -> float32 logits [B, num_classes]."""
        array = images if isinstance(images, np.ndarray) else images.numpy()
        step = _CPU_BATCH if self.device == "cpu" else len(array)
        parts = [self.session(array[i : i + step]) for i in range(0, len(array), step)]
        return np.concatenate([self.session.manifest.logits(outputs) for outputs in parts])


def load_exported(
    folder: PathLike,
    *,
    engine: str | None = None,
    artifact: str | None = None,
    precision: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    preset_file: PathLike | None = None,
) -> ExportedModel:
    """Open an exported folder to evaluate it.

    ``engine``, ``artifact``, ``precision``, ``device``, ``threads``, and what is raised: as for
    :func:`paddle_cait.deploy.sessions.open_session`; :class:`PaddleCaitError` also for a folder that is no export, or
    one without logits. ``preset_file``: where the model is defined, if it is none of the package's.
    """
    manifest = read_manifest(folder)
    session = open_session(folder, manifest, engine, artifact, device, threads, precision)
    preset = None
    with contextlib.suppress(PresetError):  # of a preset file that is not at hand
        preset = get_preset(manifest.model, preset_file)
    return ExportedModel(session, preset)
