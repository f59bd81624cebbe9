"""``capture_attention``: the maps that a model's attention layers use, while it uses them.

Each attention layer computes its maps in a method of its own, ``attention``. Watching a layer means to put a function
in front of that method on the instance, and to take it away afterwards: the model computes what it always computes,
with the same kernels, and an unwatched model does not know that this module exists.
"""

from __future__ import annotations

import contextlib
import fnmatch
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Union

import paddle
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.layers.token_layout import TokenLayout

Layers = Union[str, int, Sequence[Union[str, int]], None]

_LOCK = threading.Lock()


class AttentionMaps(dict):
    """Layer name -> map [B, heads, queries, keys], in forward order; filled by the model's forward.

    GCViT's maps are of windows: [B * windows, heads, T, T], an image's windows row by row.

    ``layouts``: of all the model's attention layers, captured or not, where their tokens lie on the image.
    ``model``: its name, for messages.
    """

    def __init__(self, layouts: dict[str, TokenLayout], model: str) -> None:
        super().__init__()
        self.layouts, self.model = layouts, model


@contextlib.contextmanager
def capture_attention(model: nn.Layer, layers: Layers = None, *, graph: bool = False) -> Iterator[AttentionMaps]:
    """Collect the attention maps of the forwards that run inside the block; each forward replaces the maps.

        with pc.capture_attention(model, layers=[-1]) as maps, paddle.no_grad():
            model(x)
        maps["blocks.11.attn"]  # [B, heads, queries, keys]

    Args:
        model: built by :func:`paddle_cait.create_model` or folded by :func:`paddle_cait.fuse` (in whose last layer the
            ViT line asks with its class tokens alone).
        layers: names, patterns (``blocks.1?.attn``) or places in forward order (-1 is the last); None is all of them.
            Only what is chosen is kept in memory.
        graph: keep the maps in the graph of the forward, for gradients; otherwise they are cut from it. On a CPU, ask
            ``paddle.grad`` for the layer norms' scales too, or use ``backward``: see
            :mod:`paddle_cait.explain.gradients`. Not for folded models, nor where blocks are recomputed.

    Maps have the data type that they were computed in. Forwards of the thread that opened the block are seen.
    Raises :class:`PaddleCaitError` for layers that the model does not have and for models in a static graph.
    """
    found = attention_layers(model)
    if graph and any(hasattr(layer, "by_head") for layer, _ in found.values()):
        raise PaddleCaitError("graph=True: a folded model's maps are not in its graph, use the model of create_model")
    maps = AttentionMaps({name: layout for name, (_, layout) in found.items()}, _name(model))

    def keep(name: str, values: Tensor) -> None:
        maps[name] = values if graph else values.detach()

    with _watched(found, choose(list(found), layers), keep):
        yield maps


@contextlib.contextmanager
def watch_attention(
    model: nn.Layer, see: Callable[[str, TokenLayout, Tensor], None], layers: Layers = None
) -> Iterator[None]:
    """Hand each map to ``see(name, layout, maps)`` as soon as it is computed, and keep none.

    ``model``, ``layers`` and what is raised: as of :func:`capture_attention`; maps are cut from the graph.
    """
    found = attention_layers(model)
    with _watched(found, choose(list(found), layers), lambda name, values: see(name, found[name][1], values.detach())):
        yield


def choose(names: list[str], layers: Layers) -> list[str]:
    """The ``names`` that ``layers`` means (see :func:`capture_attention`), in forward order."""
    if layers is None:
        return names
    wanted: list[Any] = list(layers) if isinstance(layers, (list, tuple)) else [layers]
    chosen: set[str] = set()
    for one in wanted:
        if isinstance(one, str):
            matches = fnmatch.filter(names, one)
        else:
            is_place = hasattr(one, "__index__") and not isinstance(one, bool)  # numpy's integers too
            matches = [names[one]] if is_place and -len(names) <= one < len(names) else []
        if not matches:
            raise PaddleCaitError(
                f"no attention layer {one!r}: expected {names[0]} to {names[-1]}, a pattern, or a place from 0 to "
                f"{len(names) - 1} (-1 is the last)"
            )
        chosen.update(matches)
    return [name for name in names if name in chosen]


def attention_layers(model: nn.Layer) -> dict[str, tuple[nn.Layer, TokenLayout]]:
    """The model's own, by name in forward order; :class:`PaddleCaitError` if they cannot be watched."""
    model = _unwrapped(model)
    if not hasattr(model, "attention_layers"):
        raise PaddleCaitError(
            f"{type(model).__name__}: its attention cannot be captured, expected a model of create_model or fuse"
        )
    if hasattr(type(model.forward), "concrete_program"):
        raise PaddleCaitError(
            f"{type(model).__name__}: runs as a static graph (paddle.jit.to_static), whose attention cannot be "
            "captured: use the model as create_model gave it"
        )
    found: dict[str, tuple[nn.Layer, TokenLayout]] = model.attention_layers()
    return found


def _unwrapped(model: nn.Layer) -> nn.Layer:
    return model._layers if isinstance(model, paddle.DataParallel) else model


def _name(model: nn.Layer) -> str:
    preset = getattr(_unwrapped(model), "preset", None)
    return preset.full_name if preset else type(_unwrapped(model)).__name__


@contextlib.contextmanager
def _watched(
    found: dict[str, tuple[nn.Layer, TokenLayout]], names: list[str], see: Callable[[str, Tensor], None]
) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(_watch_one(name, found[name][0], see))
        yield


class _Watch:
    """Stands before a layer's ``attention`` while anyone watches it: nested, in threads, ending in any order."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.computed = layer, layer.attention
        self.before = layer.__dict__.get("attention")  # someone else's replacement
        self.seen_by: list[tuple[int, str, Callable[[str, Tensor], None]]] = []

    def __call__(self, *args: Any) -> Any:
        values = self.computed(*args)
        if not paddle.in_dynamic_mode():
            raise PaddleCaitError("part of the model runs as a static graph, whose attention cannot be captured")
        for thread, name, see in tuple(self.seen_by):
            if thread == threading.get_ident():
                see(name, self.layer.by_head(values) if hasattr(self.layer, "by_head") else values)
        return values


@contextlib.contextmanager
def _watch_one(name: str, layer: Any, see: Callable[[str, Tensor], None]) -> Iterator[None]:
    mine = (threading.get_ident(), name, see)
    with _LOCK:
        watch = layer.__dict__.get("attention")
        if not isinstance(watch, _Watch):
            watch = _Watch(layer)
            layer.__dict__["attention"] = watch
        watch.seen_by.append(mine)
    try:
        yield
    finally:
        with _LOCK:
            watch.seen_by.remove(mine)
            if not watch.seen_by and watch.before is None:
                del layer.__dict__["attention"]
            elif not watch.seen_by:
                layer.__dict__["attention"] = watch.before
