"""``inference.yml``: how to serve the folder with Paddle's own tools, in the keys that PaddleX 3 and PaddleClas read.

PaddleX takes its predictor by ``Global.model_name`` from a list of its own, and the operators ``ResizeImage``,
``CropImage``, ``NormalizeImage``, ``ToCHWImage``, ``Topk`` (``paddlex/inference/models/image_classification``);
PaddleClas' ``deploy/python`` takes the same. What they cannot do as the model was evaluated is said in comment lines.
"""

from __future__ import annotations

from typing import Any

import yaml

from paddle_cait.deploy.manifest import Manifest

FILE = "inference.yml"
_TOP = 5

# Ours -> theirs. PaddleX knows neither hamming nor PaddleClas' spelling of lanczos; each reads what it knows.
_INTERPOLATION = {"lanczos": "lanczos4"}

_NOTES = (
    "Written by paddle_cait; EXPORT.json says more.",
    "`backend: pil` is needed: OpenCV resizes without antialiasing, which costs up to 0.4 points of accuracy.",
    "PaddleX 3 serves the models of its own list (paddlex/modules/image_classification/model_list.py): add this name.",
)


def inference_yml(manifest: Manifest, labels: list[str] | None) -> str:
    """The text of the file."""
    p = manifest.preprocess
    notes = [*_NOTES]
    if manifest.outputs[0] == "logits":
        notes.append("Scores are logits: export with --outputs probabilities if scores of 0 to 1 are wanted here.")
    operators: list[dict[str, Any]] = []
    if p is None:
        notes.append(f"The input is {manifest.img_size[0]} x {manifest.img_size[1]}: resize to it as you trained.")
    else:
        operators += _resize(manifest, notes)
    if manifest.input_dtype == "uint8":
        notes.append("The model takes uint8 [B, H, W, 3]: no NormalizeImage, no ToCHWImage. PaddleX cannot feed that.")
    else:
        operators += _arithmetic(manifest)
    content: dict[str, Any] = {
        "Global": {"model_name": manifest.model.partition(".")[0]},
        "PreProcess": {"transform_ops": operators},
        "PostProcess": _postprocess(manifest, labels),
        "Hpi": {"backend_configs": _shapes(manifest)},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"# {note}\n" for note in notes) + text


def _resize(manifest: Manifest, notes: list[str]) -> list[dict[str, Any]]:
    p = manifest.preprocess
    assert p is not None
    how = {"interpolation": _INTERPOLATION.get(p.interpolation, p.interpolation), "backend": "pil"}
    if p.interpolation == "lanczos":
        notes.append("PaddleX spells the filter lanczos4, PaddleClas lanczos: change it there.")
    if p.interpolation == "hamming":
        notes.append("PaddleX has no hamming filter: it cannot prepare images as this model was evaluated.")
    if p.crop_mode == "squash":
        return [{"ResizeImage": {"size": [p.img_size, p.img_size], **how}}]
    short = int(p.img_size / p.crop_pct)
    notes += [
        f"Evaluated with the long side int({short} * long / short) and half of an odd margin rounded to even; Paddle's",
        "tools round the side and cut the half: of some photographs the crop lies one pixel off.",
    ]
    return [{"ResizeImage": {"resize_short": short, **how}}, {"CropImage": {"size": p.img_size}}]


def _arithmetic(manifest: Manifest) -> list[dict[str, Any]]:
    p = manifest.preprocess
    if p is None:
        return [{"ToCHWImage": None}]
    numbers = {"mean": [float(v) for v in p.mean], "std": [float(v) for v in p.std]}
    normalise = {"scale": 1 / 255, **numbers, "order": "", "channel_num": 3}
    return [{"NormalizeImage": normalise}, {"ToCHWImage": None}]


def _postprocess(manifest: Manifest, labels: list[str] | None) -> dict[str, Any]:
    if not manifest.num_classes:
        return {"NormalizeFeatures": None}
    names = labels or [str(k) for k in range(manifest.num_classes)]  # PaddleX fails without a list
    return {"Topk": {"topk": min(_TOP, manifest.num_classes), "label_list": names}}


def _shapes(manifest: Manifest) -> dict[str, Any]:
    """The smallest, the usual and the largest batch, for which PaddleX' high-performance plugin builds engines."""
    one = [*manifest.img_size, 3] if manifest.input_dtype == "uint8" else [3, *manifest.img_size]
    tensorrt = {"trt_dynamic_shapes": "paddle_infer", "dynamic_shapes": "tensorrt"}
    return {engine: {key: {"x": [[size, *one] for size in (1, 1, 8)]}} for key, engine in tensorrt.items()}
