"""One training step, forward, backward and AdamW, in Paddle's dygraph and in PyTorch's eager mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np

from paddle_cait import runtime
from paddle_cait.bench.timm_models import timm_model
from paddle_cait.bench.work import IMAGES, STATE, Work
from paddle_cait.presets import get_preset

_RATE, _DECAY = 1e-4, 0.05
_STEPS = 4  # whose losses must be equal


def with_paddle(spec: dict[str, Any]) -> Work:
    runtime.prepare("cpu")
    import paddle

    from paddle_cait.factory import create_model

    paddle.base.core.set_num_threads(spec["threads"])
    model = create_model(get_preset(spec["model"], spec["preset_file"]), Path(spec["folder"]) / STATE)
    model.train()
    if spec.get("recompute"):
        model.set_grad_checkpointing(True)
    optimizer = paddle.optimizer.AdamW(_RATE, parameters=model.parameters(), weight_decay=_DECAY)
    images, labels = _batch(spec)

    def step() -> float:
        logits = model(paddle.to_tensor(images))
        if isinstance(logits, tuple):  # of two heads; timm averages them here too
            logits = sum(logits) / len(logits)
        loss = paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(labels))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return float(loss)

    return _work(step, spec, {"version": paddle.__version__, "optimizer": "AdamW"})


def with_torch(spec: dict[str, Any]) -> Work:
    model = timm_model(spec).train()
    if spec.get("recompute"):
        model.set_grad_checkpointing(True)  # timm's own
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), _RATE, weight_decay=_DECAY, fused=True)
    images, labels = _batch(spec)

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return _work(step, spec, {"version": torch.__version__, "optimizer": "AdamW, fused"})


def _work(step: Callable[[], float], spec: dict[str, Any], settings: dict[str, Any]) -> Work:
    """The check is made first: it is the losses of the first steps."""
    return Work(step, lambda: np.asarray([step() for _ in range(_STEPS)]), spec["batch"], settings)


def _batch(spec: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    images = np.load(Path(spec["folder"]) / IMAGES)
    labels = np.arange(spec["batch"]) % get_preset(spec["model"], spec["preset_file"]).num_classes
    return np.ascontiguousarray(images[np.arange(spec["batch"]) % len(images)]), labels.astype(np.int64)
