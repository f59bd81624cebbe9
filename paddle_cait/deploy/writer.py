"""Every format from one job. What two of them are made from is made once."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from paddle_cait.deploy.formats import Format
from paddle_cait.deploy.inference_yml import FILE as INFERENCE_YML
from paddle_cait.deploy.inference_yml import inference_yml
from paddle_cait.deploy.job import Job
from paddle_cait.deploy.manifest import Artifact, Manifest
from paddle_cait.deploy.onnx_format import write_onnx
from paddle_cait.deploy.openvino_format import write_openvino
from paddle_cait.deploy.paddle_format import write_paddle
from paddle_cait.deploy.quantise import onnx_int8, openvino_int8
from paddle_cait.deploy.samples import Samples
from paddle_cait.files import sha256_file

log = logging.getLogger("paddle_cait")


@dataclass
class Writer:
    """Writes into ``folder``; intermediates go to ``scratch``."""

    job: Job
    manifest: Manifest
    folder: Path
    scratch: Path
    calibration: Samples | None
    _onnx: dict[str, Path] = field(default_factory=dict)

    def write(self, form: Format) -> Artifact:
        """The files of one format."""
        files = self._files(form)
        size = sum(file.stat().st_size for file in files)
        log.info("%s: written, %.1f MB", form.name, size / 1e6)
        return Artifact(form.format, form.precision, {file.name: sha256_file(file) for file in files}, size)

    def _files(self, form: Format) -> list[Path]:
        if form.format == "paddle":
            yml = self.folder / INFERENCE_YML
            yml.write_text(inference_yml(self.manifest, self.job.labels), encoding="utf-8")
            return [*write_paddle(self.job.fused("paddle"), self.folder), yml]
        source = self._source("openvino" if form.format == "openvino" else "onnxruntime")
        if form.precision == "int8":
            assert self.calibration is not None
            quantise = openvino_int8 if form.format == "openvino" else onnx_int8
            return quantise(source, self.folder, self.calibration, self.job.dtype)
        if form.format == "openvino":
            return write_openvino(source, self.folder, form.precision)
        return [Path(shutil.copyfile(source, self.folder / "inference.onnx"))]

    def _source(self, target: str) -> Path:
        """The ONNX file in the form that ``target`` runs fastest."""
        if target not in self._onnx:
            place = self.scratch / target
            place.mkdir()
            files = write_paddle(self.job.fused(target), place)
            write_onnx(files, place / "inference.onnx", self.job.names)
            self._onnx[target] = place / "inference.onnx"
        return self._onnx[target]
