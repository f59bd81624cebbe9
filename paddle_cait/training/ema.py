"""The moving average of a model's weights, which often classifies better than the weights themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import paddle
from paddle import Tensor, nn


class Ema:
    """``average = decay * average + (1 - decay) * weight`` after each update, of parameters and buffers, in float32."""

    def __init__(self, model: nn.Layer, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @paddle.no_grad()
    def update(self, model: nn.Layer) -> None:
        for name, value in model.state_dict().items():
            average = self.average[name]
            if average.is_floating_point():
                average.set_value(average * self.decay + value.detach().astype(average.dtype) * (1 - self.decay))
            else:
                average.set_value(value)

    @contextlib.contextmanager
    def applied(self, model: nn.Layer) -> Iterator[None]:
        """The model holds the average meanwhile, and its own weights again afterwards."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        try:
            model.set_state_dict(self.average)
            yield
        finally:
            model.set_state_dict(own)
