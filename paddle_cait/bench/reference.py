"""What every engine is compared with, and the files that all of them read: weights, images, expected logits."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait import runtime
from paddle_cait.bench.drawn import drawn
from paddle_cait.bench.work import EXPECTED, IMAGES, STATE
from paddle_cait.errors import ConfigError
from paddle_cait.presets import get_preset

_COUNT = 8  # images


def make_reference(spec: dict[str, Any]) -> dict[str, Any]:
    """Write them to ``spec["folder"]``. The expected logits are the dygraph model's, in float32.

    The weights become one file in the authors' layout, which ours and the peers load: drawn ones, or those of
    ``spec["weights"]``, whatever file that is.
    """
    runtime.prepare("cpu")
    import paddle

    from paddle_cait.bench.operations import count
    from paddle_cait.deploy.samples import random_photographs
    from paddle_cait.factory import create_model

    folder = Path(spec["folder"])
    preset = get_preset(spec["model"], spec["preset_file"])
    model = create_model(preset, spec["weights"], entry=spec["entry"])
    if spec["weights"]:
        state = _official(model)
    else:
        state = drawn({name: value.shape for name, value in _official(model).items()})
    np.savez(folder / STATE, **state)  # type: ignore[arg-type]
    if not spec["weights"]:
        model = create_model(preset, folder / STATE)
    model.eval()
    images = random_photographs(_COUNT, model.img_size, preset.preprocess).prepared()
    with paddle.no_grad():
        expected = model(paddle.to_tensor(images)).numpy()
    if not np.isfinite(expected).all():
        raise ConfigError(f"{preset.full_name}: these weights give outputs that are not finite numbers")
    np.save(folder / IMAGES, images)
    np.save(folder / EXPECTED, expected)
    report = model.load_report
    return {
        "model": preset.full_name if spec["weights"] else preset.name,
        "weights": {"origin": Path(report.path).name, "sha256": report.sha256}
        if spec["weights"]
        else {"origin": "drawn"},
        "state": _digest(state),
        "img_size": list(model.img_size),
        "parameters": sum(int(parameter.size) for parameter in model.parameters()),
        "multiply_adds": count(model, images[:1]),
        "logits": {"deviation": float(expected.std()), "largest": float(np.abs(expected).max())},
    }


def _official(model: Any) -> dict[str, np.ndarray]:
    """A model's tensors under the authors' names, Linear weights [out, in]."""
    from paddle_cait.weights.plan import ModelSpec

    linear = ModelSpec.of(model).linear
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return {name: np.ascontiguousarray(value.T if name in linear else value) for name, value in tensors.items()}


def _digest(state: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].shape}".encode())
        digest.update(np.ascontiguousarray(state[name]).data)
    return digest.hexdigest()
