"""AdamW over groups of parameters, with a state that knows the model's own names.

Paddle's AdamW names its moments after parameters like ``linear_3.w_0``, which another process may number otherwise; a
state that is saved here speaks of ``blocks.0.attn.qkv.weight``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.training.groups import Group


class Optimizer:
    """Decoupled weight decay, PyTorch's semantics: ``p -= lr * (decay * p + m / (sqrt(v) + eps))``, m and v corrected
    for their start. Each group learns at its scale of the rate given to :meth:`step`. Frozen parameters stay out.

    ``clip``: the largest norm of all gradients together; None leaves them as they are.
    """

    def __init__(
        self,
        model: nn.Layer,
        groups: Sequence[Group],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        clip: float | None = None,
    ) -> None:
        parameters = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
        grouped = [name for group in groups for name in group.names]
        if sorted(grouped) != sorted(parameters):
            odd = sorted(set(grouped) ^ set(parameters))
            raise PaddleCaitError(f"groups must hold each learning parameter once; {odd[0] if odd else grouped[0]}")
        self.parameters, self.groups, self.clip = parameters, list(groups), clip
        decay = {group.decay for group in groups if group.decay}
        if len(decay) > 1:
            raise PaddleCaitError(f"groups have several weight decays, {sorted(decay)}; expected one, or 0")
        decaying = set()
        for group in groups:
            for name in group.names:
                parameters[name].optimize_attr["learning_rate"] = group.scale
                if group.decay:
                    decaying.add(parameters[name].name)
        self.adamw = paddle.optimizer.AdamW(
            learning_rate=0.0,
            beta1=betas[0],
            beta2=betas[1],
            epsilon=eps,
            parameters=list(parameters.values()),
            weight_decay=max(decay, default=0.0),
            apply_decay_param_fun=lambda name: name in decaying,
        )

    def clip_gradients(self) -> float | None:
        """Clip, if asked for; returns the norm that the gradients had."""
        if self.clip is None:
            return None
        return float(paddle.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.clip))

    def step(self, lr: float, scaler: Any = None) -> None:
        """One update at this learning rate; the gradients are gone afterwards."""
        self.adamw.set_lr(lr)
        if scaler is None:
            self.adamw.step()
        else:
            scaler.step(self.adamw)
            scaler.update()
        self.adamw.clear_grad()

    def state(self) -> dict[str, np.ndarray]:
        """``NAME:KIND`` -> values; the kinds are Paddle's (``moment1_0``, ``beta1_pow_acc_0``, ...)."""
        known = self.adamw.state_dict()
        found: dict[str, np.ndarray] = {}
        for name, parameter in self.parameters.items():
            prefix = f"{parameter.name}_"
            for key, value in known.items():
                if key.startswith(prefix) and key[len(prefix) :].replace("_", "").isalnum():
                    found[f"{name}:{key[len(prefix) :]}"] = value.numpy()
        return found

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from what :meth:`state` gave, before the first update."""
        given: dict[str, Any] = {}
        for key, values in state.items():
            name, _, kind = key.rpartition(":")
            if name not in self.parameters:
                raise PaddleCaitError(f"the optimizer's state is of {name}, which does not learn in this model")
            given[f"{self.parameters[name].name}_{kind}"] = paddle.to_tensor(values)
        self.adamw.set_state_dict(given)
