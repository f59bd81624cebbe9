"""timm: eager, compiled, and exported to ONNX and OpenVINO.

The peers get what serves them best: no autograd, as many threads and the same allocator settings as ours, channels in
the order that is faster, and in torch.compile weights that are constants.
"""

from __future__ import annotations

import statistics
import warnings
from pathlib import Path
from typing import Any, Callable

import numpy as np

from paddle_cait.bench.timm_models import timm_model
from paddle_cait.bench.work import IMAGES, Run, Work, inference, measure

_OPSET = 17


def eager(spec: dict[str, Any]) -> Work:
    torch, model = _open(spec)
    order = _faster_order(torch, model, spec)
    settings = {"version": torch.__version__, "memory_format": order}
    return inference(_run(torch, model, torch.inference_mode, order), spec, settings)


def compiled(spec: dict[str, Any]) -> Work:
    torch, model = _open(spec)
    import torch._inductor.config as inductor

    inductor.freezing = True  # weights packed for oneDNN once; it asks for no_grad in place of inference_mode
    run = _run(torch, torch.compile(model, dynamic=False), torch.no_grad)
    work = inference(run, spec, {"version": torch.__version__, "freezing": True})
    work.step()  # compiles, for this batch size
    return work


def export_onnx(spec: dict[str, Any]) -> dict[str, Any]:
    """By torch.onnx, for any batch size."""
    torch, model = _open({**spec, "precision": "fp32"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is a newer exporter; it needs one more package
        torch.onnx.export(
            model,
            _example(torch, spec),
            str(Path(spec["target"]) / "timm.onnx"),
            opset_version=_OPSET,
            input_names=["x"],
            output_names=["logits"],
            dynamic_axes={"x": {0: "batch"}, "logits": {0: "batch"}},
            dynamo=False,
        )
    return {"files": {"onnx": ["timm.onnx"]}}


def export_openvino(spec: dict[str, Any]) -> dict[str, Any]:
    """By OpenVINO's own reader of PyTorch models, without ONNX."""
    torch, model = _open({**spec, "precision": "fp32"})
    from paddle_cait.deploy.isolation import import_openvino

    import_openvino()
    import openvino

    example = _example(torch, spec)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's tracer
        found = openvino.convert_model(model, input=[-1, *example.shape[1:]], example_input=example)
    openvino.save_model(found, str(Path(spec["target"]) / "timm.xml"), compress_to_fp16=False)
    return {"files": {"openvino": ["timm.xml", "timm.bin"]}}


def _open(spec: dict[str, Any]) -> tuple[Any, Any]:
    model = timm_model(spec)
    import torch

    return torch, model.to(torch.bfloat16 if spec["precision"] == "bf16" else torch.float32)


def _run(torch: Any, model: Any, without_grad: Callable[[], Any], order: str = "contiguous_format") -> Run:
    dtype = next(model.parameters()).dtype
    memory = getattr(torch, order)
    model.to(memory_format=memory)

    def run(images: np.ndarray) -> np.ndarray:
        with without_grad():
            x = torch.from_numpy(images).to(dtype, memory_format=memory)
            logits: np.ndarray = model(x).float().numpy()
        return logits

    return run


def _faster_order(torch: Any, model: Any, spec: dict[str, Any]) -> str:
    """How images and weights lie in memory. It matters where convolutions follow one another."""
    orders = ["contiguous_format", "channels_last"]
    if sum(isinstance(layer, torch.nn.Conv2d) for layer in model.modules()) < 2:
        return orders[0]
    batch = np.repeat(np.load(Path(spec["folder"]) / IMAGES)[:1], spec["batch"], axis=0)
    spent = {}
    for order in orders:
        run = _run(torch, model, torch.inference_mode, order)
        spent[order] = statistics.median(measure(lambda run=run: run(batch), 1.0))  # type: ignore[misc]
    return min(spent, key=spent.__getitem__)


def _example(torch: Any, spec: dict[str, Any]) -> Any:
    """Two images: at one, a tracer takes the batch for a constant."""
    return torch.from_numpy(np.load(Path(spec["folder"]) / IMAGES)[:2])
