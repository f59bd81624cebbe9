"""OpenVINO's IR, made from ONNX: OpenVINO 2026 reads Paddle's older format alone."""

from __future__ import annotations

from pathlib import Path

from paddle_cait.deploy.isolation import import_openvino


def write_openvino(onnx_file: Path, folder: Path, precision: str = "fp32") -> list[Path]:
    """Write ``inference.xml`` and ``.bin``; with ``fp16`` weights rounded to float16, ``inference_fp16.xml``."""
    import_openvino()
    import openvino

    path = folder / ("inference.xml" if precision == "fp32" else f"inference_{precision}.xml")
    model = openvino.Core().read_model(str(onnx_file))
    openvino.save_model(model, str(path), compress_to_fp16=precision == "fp16")
    return [path, path.with_suffix(".bin")]
