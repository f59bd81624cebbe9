"""What computes the logits of a batch: a Paddle layer as it is or traced, or anything else that can say what it did."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from paddle_cait.data.transforms import EvalTransform, PixelTransform
from paddle_cait.versions import installed

if TYPE_CHECKING:
    from paddle import nn

    from paddle_cait.presets import Preset


class Engine(Protocol):
    """What evaluation needs of a model: :class:`LayerEngine` and :class:`paddle_cait.deploy.exported.ExportedModel`."""

    @property
    def label(self) -> str:
        """The preset's full name, or what the model is called."""

    @property
    def num_classes(self) -> int:
        """Length of a row of logits."""

    @property
    def preset(self) -> Preset | None:
        """None where the model is not known."""

    @property
    def load_report(self) -> Any:
        """Has ``path``, ``sha256`` and ``notes`` of the weights; None without any."""

    @property
    def engine(self) -> str:
        """What computes the logits: ``dygraph``, ``static``, ``openvino``, ..."""

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16``, ``fp16`` or ``int8``."""

    @property
    def device(self) -> str:
        """``cpu``, ``gpu:0``."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All else that logits depend on, for reports."""

    @property
    def files(self) -> Mapping[str, str]:
        """What is run, if that is not the weights: name -> sha256."""

    def adapt(self, transform: EvalTransform) -> EvalTransform:
        """The transform in the form that this model takes images."""
        ...

    def running(self) -> AbstractContextManager[None]:
        """Around all batches."""
        ...

    def __call__(self, images: Any) -> np.ndarray:
        """A batch of a loader (``paddle.Tensor`` or numpy) -> float32 logits [B, num_classes]."""
        ...


class LayerEngine:
    """A Paddle layer in evaluation mode: ``dygraph``, or ``static``, traced into one graph by ``paddle.jit``.

    ``layer``: a model of :func:`paddle_cait.create_model` or :func:`paddle_cait.fuse`; anything with ``num_classes``
    that maps float32 [B, 3, H, W] to logits. The attributes are those of an :class:`Engine`.
    """

    precision = "fp32"
    files: Mapping[str, str] = {}

    def __init__(self, layer: nn.Layer, static: bool = False) -> None:
        self.layer = layer
        self.engine = "static" if static else "dygraph"
        self.num_classes: int = layer.num_classes
        self.preset = getattr(layer, "preset", None)
        self.load_report = getattr(layer, "load_report", None)
        self.img_size = getattr(layer, "img_size", None)
        self._forward = _traced(layer) if static else layer

    @property
    def label(self) -> str:
        """The preset's full name, or the layer's class."""
        return self.preset.full_name if self.preset else type(self.layer).__name__

    @property
    def device(self) -> str:
        """Paddle's current one."""
        import paddle

        return str(paddle.device.get_device())

    @property
    def settings(self) -> dict[str, Any]:
        """Paddle's ``version`` and ``threads``, the number that OMP_NUM_THREADS gives."""
        version = installed("paddlepaddle") or installed("paddlepaddle-gpu")
        threads = os.environ.get("OMP_NUM_THREADS", "1")  # Paddle's own default is one
        return {"version": f"of Paddle {version}", "threads": int(threads) if threads.isdigit() else threads}

    def adapt(self, transform: EvalTransform) -> EvalTransform:
        """The transform itself; without its arithmetic for a model that was fused with ``uint8_input``."""
        uint8 = getattr(self.layer, "uint8_input", False)
        return PixelTransform(transform.preprocess, transform.backend) if uint8 else transform

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """In evaluation mode, without gradients; the layer comes back in its own mode."""
        import paddle

        was_training = self.layer.training
        self.layer.eval()
        try:
            with paddle.no_grad():
                yield
        finally:
            if was_training:
                self.layer.train()

    def __call__(self, images: Any) -> np.ndarray:
        """A batch of a loader (``paddle.Tensor`` or numpy) -> float32 logits [B, num_classes]."""
        import paddle

        tensor = images if isinstance(images, paddle.Tensor) else paddle.to_tensor(images)
        logits: np.ndarray = self._forward(tensor).astype("float32").numpy()
        return logits


def as_engine(model: nn.Layer | Engine) -> Engine:
    """A layer in dygraph; what is an engine already, as it is."""
    from paddle import nn

    return LayerEngine(model) if isinstance(model, nn.Layer) else model


def _traced(layer: nn.Layer) -> Any:
    """The layer's forward as one static graph for batches of any size; the layer itself stays as it is."""
    import paddle

    size = getattr(layer, "img_size", None)
    spec = None if size is None else [paddle.static.InputSpec([None, 3, *size], "float32", "x")]
    return paddle.jit.to_static(layer.forward, input_spec=spec, full_graph=True)
