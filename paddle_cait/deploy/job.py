"""What one export is about: the model, its outputs and input, the images to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paddle_cait.data.transforms import eval_transform
from paddle_cait.deploy.formats import Format, package_versions
from paddle_cait.deploy.fuse import OUTPUTS, FusedModel, fuse
from paddle_cait.deploy.labels import LABELS, class_names
from paddle_cait.deploy.manifest import Manifest
from paddle_cait.deploy.onnx_format import OPSET
from paddle_cait.deploy.samples import Samples, random_photographs, read_samples
from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.files import PathLike
from paddle_cait.versions import versions


@dataclass(frozen=True)
class Job:
    """``names``: of the outputs, in order; ``dtype``: of the input; ``labels``: the classes' names, if known."""

    model: Any
    names: tuple[str, ...]
    dtype: str
    labels: list[str] | None

    @classmethod
    def of(cls, model: Any, outputs: Sequence[str], uint8_input: bool, names_file: PathLike | None) -> Job:
        """Checks everything that can be checked before anything is computed."""
        if getattr(model, "preset", None) is None:
            raise PaddleCaitError("export needs a model made by create_model: its preset says how images are prepared")
        first = ("logits", "probabilities") if model.num_classes else ("features",)
        names = tuple(dict.fromkeys(first[0] if name == "logits" else name for name in outputs))
        known = OUTPUTS if model.num_classes else ("features", "attention")
        if not set(names[:1]) & set(first) or not set(names) <= set(known):
            raise ConfigError(
                f"outputs are {', '.join(outputs) or 'none'}, expected {' or '.join(first)} first, then some of "
                f"{', '.join(known)}; for features alone build the model with num_classes=0 (--num-classes 0)"
            )
        labels = class_names(model.num_classes, names_file)
        return cls(model, names, "uint8" if uint8_input else "float32", labels)

    @property
    def num_bytes(self) -> int:
        """Of the weights in float32."""
        return sum(4 * int(parameter.size) for parameter in self.model.parameters())

    def fused(self, target: str) -> FusedModel:
        # what a model without classes returns counts as its logits there: for DeiT the mean of two tokens
        names = [name if self.model.num_classes or name != "features" else "logits" for name in self.names]
        return fuse(self.model, target, outputs=names, uint8_input=self.dtype == "uint8")

    def samples(self, folder: PathLike | None, list_file: PathLike | None, count: int) -> Samples:
        """To verify with: photographs, or random ones."""
        if folder is not None:
            return read_samples(folder, count, eval_transform(self.model), list_file, self.model.num_classes or None)
        if list_file is not None:
            raise ConfigError(f"{list_file}: a list of images needs their folder, --verify-dir")
        if count < 1:
            raise ConfigError(f"the number of images is {count}, expected 1 or more")
        return random_photographs(count, self.model.img_size, self.model.preset.preprocess)

    def calibration(self, wanted: Sequence[Format], folder: PathLike | None, count: int) -> Samples | None:
        """For int8: photographs. None where nothing is quantised."""
        int8 = next((form for form in wanted if form.precision == "int8"), None)
        if int8 is None:
            return None
        if folder is None:
            raise ConfigError(
                f"{int8.name} needs --calib-dir: a folder of photographs like those to come (300 are enough; images "
                "that the model was trained on do)"
            )
        return read_samples(folder, count, eval_transform(self.model))

    def manifest(self, samples: Samples, calibration: Samples | None) -> Manifest:
        """Everything but the artifacts."""
        model, report = self.model, getattr(self.model, "load_report", None)
        note = "no weights were loaded: these are the initial ones"
        source: dict[str, Any] = {"file": None, "sha256": None, "notes": [note]}
        if report is not None:
            source = {"file": str(report.path), "sha256": report.sha256, "notes": list(report.notes)}
        height, width = model.img_size
        settings = {"opset": OPSET, "verified_with": samples.origin}
        if calibration is not None:
            settings["calibrated_with"] = calibration.origin
        return Manifest(
            model=model.preset.full_name,
            family=model.preset.family,
            num_classes=model.num_classes,
            img_size=(height, width),
            input_dtype=self.dtype,
            outputs=self.names,
            preprocess=eval_transform(model).preprocess if height == width else None,
            labels=LABELS if self.labels else None,
            weights=source,
            artifacts=(),
            versions={**versions(), **package_versions()},
            settings=settings,
        )
