"""int8 after training: weights and the inputs of linear layers in 8 bits, ranges from a few hundred photographs.

Only products with a weight matrix are quantised: products of activations (scores, heads' mixing) gain little speed and
lose accuracy, and the patch embedding is small. Measured (mean difference of CaiT's logits on the bundled digits;
cosine of a trained DINOv2 ViT-S/14's features on photographs; speed on one core with VNNI):

- onnxruntime, per channel, 7-bit weights: 0.029, 0.9949, 2.2x. 8 bits would give 0.021, 0.9959, but processors without
  VNNI then overflow in silence, so the file would compute one thing here and another there.
- NNCF as it comes: 0.212, 0.994, 3.1x. With ranges from the smallest and largest values instead of their means over
  images, and a milder smoothing (0.5): 0.021, 0.9992, 2.8x.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.deploy.isolation import import_openvino, not_importable, silence
from paddle_cait.deploy.samples import Samples

_SMOOTHING = 0.5  # the SmoothQuant paper's (https://arxiv.org/abs/2211.10438)


def onnx_int8(source: Path, folder: Path, images: Samples, dtype: str) -> list[Path]:
    """``inference_int8.onnx`` in QDQ form. ``dtype``: of the model's input."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    target = folder / "inference_int8.onnx"
    graph = onnx.load(str(source)).graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    linear = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in matrices]
    with silence():
        quantize_static(
            str(source),
            str(target),
            _Reader(graph.input[0].name, images, dtype),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=linear,
        )
        _sign(target)
    return [target]


def openvino_int8(source: Path, folder: Path, images: Samples, dtype: str) -> list[Path]:
    """``inference_int8.xml`` and ``.bin``."""
    import_openvino()
    import openvino

    target = folder / "inference_int8.xml"
    model = openvino.Core().read_model(str(source))
    free = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "MatMul" and not _has_matrix(op)]
    # NNCF imports PyTorch where it is installed, to ask whether this is a model of PyTorch's.
    with silence(), not_importable("openvino_telemetry", "torch"):
        import nncf
        from nncf.quantization import range_estimator

        quantised = nncf.quantize(
            model,
            nncf.Dataset(range(len(images)), lambda i: images.inputs(dtype, i, i + 1)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=free, types=["Convolution"], validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=range_estimator.RangeEstimatorParametersSet.MINMAX,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_SMOOTHING),
            ),
        )
    openvino.save_model(quantised, str(target), compress_to_fp16=False)
    return [target, target.with_suffix(".bin")]


class _Reader:
    """What onnxruntime asks for one input after the other; None ends it."""

    def __init__(self, name: str, images: Samples, dtype: str) -> None:
        self._inputs: Iterator[dict[str, np.ndarray]] = (
            {name: images.inputs(dtype, i, i + 1)} for i in range(len(images))
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


def _has_matrix(op: Any) -> bool:
    """Whether a product's second operand is a weight matrix."""
    node = op.input_value(1).get_node()
    while node.get_type_name() in ("Convert", "Transpose", "Reshape"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant" and len(node.output(0).get_partial_shape()) == 2


def _sign(path: Path) -> None:
    """Take onnxruntime's notes to itself out of the file, and check it."""
    import onnx

    model = onnx.load(str(path))
    model.producer_name = "paddle_cait"
    del model.metadata_props[:]
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
