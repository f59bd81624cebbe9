"""What the attention looks at: maps, methods that make numbers of them, and pictures (``docs/explain.md``).

The names below are loaded on first use: importing the package imports neither Paddle nor matplotlib.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "AttentionMaps": "capture",
    "Options": "methods",
    "attention_rollout": "rollout",
    "capture_attention": "capture",
    "class_attention": "class_token",
    "component_shares": "filters",
    "distance_layers": "distance",
    "explain_images": "methods",
    "explain_weights": "methods",
    "filter_components": "filters",
    "grad_cam": "gradients",
    "gradient_attention": "gradients",
    "heat_figure": "render",
    "keep_mass": "class_token",
    "mean_attention_distance": "distance",
    "patch_attention": "class_token",
    "patch_filters": "filters",
    "position_similarity": "positions",
    "saliency": "class_token",
    "save_figure": "render",
    "stream_distance": "distance_stream",
    "watch_attention": "capture",
    "window_attention": "windows",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(import_module(f"paddle_cait.explain.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_LAZY)
