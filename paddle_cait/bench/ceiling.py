"""The machine's own rate: one large product of matrices, in every library that is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from paddle_cait.bench.timm_models import import_torch
from paddle_cait.bench.work import Work


def with_numpy(spec: dict[str, Any]) -> Work:
    a, b = _operands(spec["side"])
    return _work(lambda: np.matmul(a, b), {"version": np.__version__})


def with_torch(spec: dict[str, Any]) -> Work:
    torch = import_torch(spec["threads"])
    dtype = torch.bfloat16 if spec["precision"] == "bf16" else torch.float32
    a, b = (torch.from_numpy(values).to(dtype) for values in _operands(spec["side"]))

    def step() -> Any:
        with torch.inference_mode():
            return a @ b

    return _work(step, {"version": torch.__version__})


def with_openvino(spec: dict[str, Any]) -> Work:
    """The second operand is a constant, as a model's weights are."""
    from paddle_cait.deploy.isolation import import_openvino

    import_openvino()
    import openvino
    from openvino import opset13 as ops

    bf16 = spec["precision"] == "bf16"
    dtype = openvino.Type.bf16 if bf16 else openvino.Type.f32
    a, b = _operands(spec["side"])
    x = ops.parameter(list(a.shape), dtype, "x")
    product = ops.matmul(x, ops.convert(ops.constant(b), dtype.get_type_name()), False, False)
    model = openvino.Model([product], [x], "product")
    config = {
        "INFERENCE_NUM_THREADS": spec["threads"],
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
    }
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    given = openvino.Tensor(dtype, a.shape)
    given.data[:] = (a.view(np.uint32) >> 16).astype(np.uint16).view(given.data.dtype) if bf16 else a
    request.set_input_tensor(given)
    return _work(request.infer, {"version": openvino.__version__})


def _operands(side: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(0)
    a, b = (rng.standard_normal((side, side)).astype(np.float32) for _ in range(2))
    return a, b


def _work(step: Any, settings: dict[str, Any]) -> Work:
    return Work(step, lambda: np.zeros(0), 1, settings)
