"""Image transformers for PaddlePaddle that compute what the authors' code computes.

The public names are below; each is loaded on first use, so that importing the package does not import Paddle.
"""

# zlib first: on paddlepaddle 2.6 it crashes the process if it is first loaded after paddle.
import zlib  # noqa: F401
from importlib import import_module
from typing import Any

from paddle_cait.errors import ConfigError, DataError, PaddleCaitError, PresetError, WeightsError
from paddle_cait.presets import get_preset, list_models
from paddle_cait.versions import __version__

_LAZY = {
    "create_model": "paddle_cait.factory",
    "load_weights": "paddle_cait.weights.apply",
    "capture_attention": "paddle_cait.explain.capture",
    "convert": "paddle_cait.conversion",
    "eval_transform": "paddle_cait.data.transforms",
    "evaluate": "paddle_cait.engine.evaluate",
    "VerificationError": "paddle_cait.deploy.verify",
    "export": "paddle_cait.deploy.exporter",
    "Recipe": "paddle_cait.training.recipe",
    "finetune": "paddle_cait.training.finetune",
    "fuse": "paddle_cait.deploy.fuse",
    "load_predictor": "paddle_cait.deploy.predictor",
}

__all__ = [
    "ConfigError",
    "DataError",
    "PaddleCaitError",
    "PresetError",
    "Recipe",
    "VerificationError",
    "WeightsError",
    "__version__",
    "capture_attention",
    "convert",
    "create_model",
    "eval_transform",
    "evaluate",
    "explain",
    "export",
    "finetune",
    "fuse",
    "get_preset",
    "list_models",
    "load_predictor",
    "load_weights",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    if name == "explain":
        return import_module("paddle_cait.explain")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
