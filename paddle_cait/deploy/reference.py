"""What the model itself gives, in Paddle's dynamic graph: the truth that every exported file is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_cait.deploy.samples import Samples
from paddle_cait.errors import PaddleCaitError

_BATCH = 8


@dataclass(frozen=True)
class Reference:
    """float32 arrays of all samples, one an output, in the order of ``names``. ``dtype``: of the exported input."""

    samples: Samples
    outputs: list[np.ndarray]
    names: tuple[str, ...]
    dtype: str

    @classmethod
    def of(cls, model: Any, samples: Samples, names: tuple[str, ...], dtype: str) -> Reference:
        """Compute it. ``model`` is left as it was; raises :class:`PaddleCaitError` where it gives no finite numbers."""
        starts = range(0, len(samples), _BATCH)
        parts = [_outputs(model, samples.prepared(i, i + _BATCH), names) for i in starts]
        outputs = [np.concatenate(column) for column in zip(*parts)]
        for name, values in zip(names, outputs):
            if not np.isfinite(values).all():
                raise PaddleCaitError(f"the model gives {name} that are not finite numbers: look at its weights")
        return cls(samples, outputs, names, dtype)

    @property
    def correct(self) -> int | None:
        """How many of the labelled images the model itself gets right."""
        labels = self.samples.labels
        return None if labels is None else int((self.outputs[0].argmax(1) == labels).sum())


def _outputs(model: Any, images: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
    import paddle

    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        with paddle.no_grad(), _LastMap(model) as last:
            x = paddle.to_tensor(images)
            found = {"logits": model(x)}
            found["probabilities"] = paddle.nn.functional.softmax(found["logits"], axis=-1)
            found["features"] = model.forward_features(x) if model.num_classes else found["logits"]
            found["attention"] = last.map
        return [found[name].numpy() for name in names]
    finally:
        for layer, mode in modes:
            layer.training = mode


class _LastMap:
    """Keeps the map of the attention layer that was computed last: [B, heads, queries, keys]."""

    def __init__(self, model: Any) -> None:
        self.layers = [layer for layer in model.sublayers() if callable(getattr(layer, "attention", None))]
        self.map: Any = None

    def __enter__(self) -> _LastMap:
        for layer in self.layers:
            object.__setattr__(layer, "attention", self._keeping(layer.attention))
        return self

    def _keeping(self, attention: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            self.map = attention(*args)
            return self.map

        return wrapped

    def __exit__(self, *exc: object) -> None:
        for layer in self.layers:
            object.__delattr__(layer, "attention")
