"""Every explanation by its name: what the command and the page offer. Each gives pictures that draw themselves.

A method is handed a model and prepared images and gives one :class:`Picture` an image; ``filters`` and ``positions``
look at the weights alone and give one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Callable, TypeVar

import numpy as np
import paddle
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain import class_token
from paddle_cait.explain.capture import AttentionMaps, Layers, attention_layers, capture_attention, choose
from paddle_cait.explain.distance import distance_layers, mean_attention_distance
from paddle_cait.explain.filters import filter_components, patch_filters
from paddle_cait.explain.gradients import grad_cam, gradient_attention
from paddle_cait.explain.pictures import DistancePicture, FiltersPicture, HeatPicture, Picture, PositionsPicture
from paddle_cait.explain.positions import position_similarity
from paddle_cait.explain.rollout import attention_rollout
from paddle_cait.explain.windows import window_attention
from paddle_cait.layers.token_layout import Pair

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What may be asked of a method; each uses what concerns it, see the functions of :mod:`paddle_cait.explain`.

    Args:
        layers: see :func:`capture_attention`; None is the method's own (the last one; both class layers of a CaiT).
        heads: None is each head beside the other, () their mean, or some by number.
        token, head_fusion, discard_ratio, level, metric: as the functions have them.
        query: (row, column) of the patch that looks, None the one in the middle; or of the place in a window, None all.
        threshold: show only the patches that hold this share of a map's sum; above 0, at most 1.
        clip: a percentile of each map (above 0, at most 100) where its colours end, for maps that a few extreme patches
            outshine.
        targets: classes to explain; None is the predicted one.
        class_names: in the order of the labels.
    """

    layers: Layers = None
    heads: tuple[int, ...] | None = None
    token: int | None = None
    query: Pair | None = None
    threshold: float | None = None
    clip: float | None = None
    head_fusion: str = "mean"
    discard_ratio: float = 0.0
    targets: tuple[int, ...] | None = None
    level: int = -1
    metric: str = "cosine"
    class_names: Sequence[str] | None = None


def class_attention(model: nn.Layer, images: Tensor, o: Options) -> list[Picture]:
    maps = _maps(model, images, _of_kind(model, "class") or -1 if o.layers is None else o.layers)
    found = {name: class_token.class_attention(maps, name, o.token) for name in maps}
    return _head_pictures(found, o, "attention of the class token", "attention")


def patch_attention(model: nn.Layer, images: Tensor, o: Options) -> list[Picture]:
    maps = _maps(model, images, _of_kind(model, "tokens")[-1:] or -1 if o.layers is None else o.layers)
    layout = next(iter(maps.layouts.values()))
    patch = o.query or (layout.grid[0] // 2, layout.grid[1] // 2)
    found = {name: class_token.patch_attention(maps, patch, name) for name in maps}
    about = f"attention of the patch in row {patch[0]}, column {patch[1]}"
    return _head_pictures(found, o, about, "attention", mark=patch)


def windows(model: nn.Layer, images: Tensor, o: Options) -> list[Picture]:
    maps = _maps(model, images, -1 if o.layers is None else o.layers)
    found = {name: window_attention(maps, name, o.query) for name in maps}
    who = "all queries" if o.query is None else f"the query in row {o.query[0]}, column {o.query[1]} of each window"
    return _head_pictures(found, o, f"attention within windows, of {who}", "attention")


def saliency(model: nn.Layer, images: Tensor, o: Options) -> list[Picture]:
    own = _of_kind(model, "class")[:1] or -1 if o.layers is None else o.layers
    layer = choose(list(attention_layers(model)), own)[-1]
    found = class_token.saliency(_maps(model, images, layer), layer, o.token)
    about = f"saliency: the class token's attention, mean of the heads of {layer}, stretched to 0..1"
    return [_one(about, "saliency", values, o) for values in found]


def rollout(model: nn.Layer, images: Tensor, o: Options) -> list[Picture]:
    found = attention_rollout(_maps(model, images, None), o.head_fusion, o.discard_ratio, o.token)
    dropped = f", {100 * o.discard_ratio:g} % of the weights discarded" if o.discard_ratio else ""
    about = f"attention rollout, {o.head_fusion} of the heads{dropped}"
    return [_one(about, "rollout", values, o) for values in found]


def gradient(model: nn.Layer, images: Tensor, o: Options) -> list[Picture]:
    def explain(target: Sequence[int]) -> np.ndarray:
        return gradient_attention(model, images, target, o.token)

    return _class_pictures(model, images, o, "attention weighted by the gradient", "relevance", explain)


def cam(model: nn.Layer, images: Tensor, o: Options) -> list[Picture]:
    def explain(target: Sequence[int]) -> np.ndarray:
        return grad_cam(model, images, target, o.level)

    return _class_pictures(model, images, o, f"Grad-CAM of level {o.level % 4}", "Grad-CAM", explain)


def distance(model: nn.Layer, images: Tensor, o: Options) -> list[Picture]:
    maps = _maps(model, images, None)
    names = np.array(distance_layers(maps))
    found = mean_attention_distance(maps)
    return [
        DistancePicture("mean attention distance of this image", {"distance": values, "layers": names})
        for values in found
    ]


def filters(model: nn.Layer, o: Options) -> Picture:
    found = patch_filters(model)
    return FiltersPicture(
        f"the {len(found)} filters of the patch embedding, each stretched to 0..1", {"filters": found}
    )


def components(model: nn.Layer, o: Options) -> Picture:
    found = filter_components(model)
    about = f"the first {len(found)} principal components of the patch embedding's filters"
    return FiltersPicture(about, {"filters": found})


def positions(model: nn.Layer, o: Options) -> Picture:
    found = position_similarity(model, o.metric)
    label = {"cosine": "cosine similarity", "dot": "dot product"}[o.metric]
    limits = (-1.0, 1.0) if o.metric == "cosine" else None
    return PositionsPicture(f"{label} of position embeddings", {"similarity": found}, label, limits)


_OF_IMAGES: dict[str, Callable[[nn.Layer, Tensor, Options], list[Picture]]] = {
    "class-attention": class_attention,
    "saliency": saliency,
    "rollout": rollout,
    "gradient": gradient,
    "patch-attention": patch_attention,
    "windows": windows,
    "grad-cam": cam,
    "distance": distance,
}
_OF_WEIGHTS: dict[str, Callable[[nn.Layer, Options], Picture]] = {
    "filters": filters,
    "components": components,
    "positions": positions,
}


def explain_images(method: str, model: nn.Layer, images: Tensor, options: Options | None = None) -> list[Picture]:
    """One picture for each of ``images``, float32 [B, 3, H, W] prepared as in evaluation.

    ``method``: one of :data:`paddle_cait.explain.catalogue.METHODS` that is not of weights. ``model``: of
    :func:`create_model`, in evaluation mode. ``options``: None is :class:`Options` as they are. Raises
    :class:`PaddleCaitError` for another method, and for what the model or the options do not allow.
    """
    return _named(_OF_IMAGES, method)(model, images, options or Options())


def explain_weights(method: str, model: nn.Layer, options: Options | None = None) -> Picture:
    """One picture of the model's weights; ``method``: filters, components or positions. ``options``: of ``positions``.

    Raises :class:`PaddleCaitError` for another method, and for a model without such weights.
    """
    return _named(_OF_WEIGHTS, method)(model, options or Options())


def _named(methods: dict[str, T], method: str) -> T:
    if method not in methods:
        raise PaddleCaitError(f"no method {method!r} here, expected one of {', '.join(methods)}")
    return methods[method]


def _of_kind(model: nn.Layer, kind: str) -> list[str]:
    """The layers of one kind (see :class:`TokenLayout`): ``class``, both of a CaiT's, none of a ViT's."""
    return [name for name, (_, layout) in attention_layers(model).items() if layout.kind == kind]


def _maps(model: nn.Layer, images: Tensor, layers: Layers) -> AttentionMaps:
    with paddle.no_grad(), capture_attention(model, layers) as maps:
        model(images)
    return maps


def _one(about: str, label: str, values: np.ndarray, o: Options) -> Picture:
    return HeatPicture(about + _limits(o), {label: values}, [[("", _displayed(values, o))]], label)


def _head_pictures(
    found: dict[str, np.ndarray], o: Options, about: str, label: str, mark: Pair | None = None
) -> list[Picture]:
    """``found``: layer -> [B, heads, h, w]. A row a layer, a panel a head."""
    pictures = []
    names = list(found)
    named = about + ", " + (", ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}") + _limits(o)
    for i in range(len(next(iter(found.values())))):
        rows, arrays = [], {}
        for name, values in found.items():
            kept = _chosen_heads(values[i], o, name)
            arrays[name] = values[i]
            where = f"{name} " if len(found) > 1 else ""
            rows.append([(f"{where}{title}", _displayed(heat, o)) for title, heat in kept])
        pictures.append(HeatPicture(named, arrays, rows, label, mark))
    return list(pictures)


def _chosen_heads(values: np.ndarray, o: Options, name: str) -> Iterable[tuple[str, np.ndarray]]:
    if o.heads == ():
        return [("mean of the heads", values.mean(0))]
    heads = range(len(values)) if o.heads is None else o.heads
    wrong = [head for head in heads if not 0 <= head < len(values)]
    if wrong:
        raise PaddleCaitError(f"{name}: no head {wrong[0]}, expected 0 to {len(values) - 1}")
    return [(f"head {head}", values[head]) for head in heads]


def _displayed(values: np.ndarray, o: Options) -> np.ndarray:
    """A map as the options want it shown."""
    if o.clip is not None and not 0 < o.clip <= 100:
        raise PaddleCaitError(f"clip is {o.clip:g}, expected a percentile above 0 and at most 100")
    shown = values if o.clip is None else np.minimum(values, np.percentile(values, o.clip))
    return shown if o.threshold is None else np.where(class_token.keep_mass(values, o.threshold), shown, np.nan)


def _limits(o: Options) -> str:
    """What `_displayed` did, for the caption."""
    parts = [] if o.threshold is None else [f"the patches that hold {100 * o.threshold:g} % of it"]
    parts += [] if o.clip is None else [f"colours end at percentile {o.clip:g}"]
    return "".join(f", {part}" for part in parts)


def _class_pictures(
    model: nn.Layer, images: Tensor, o: Options, about: str, label: str, explain: Callable[[Sequence[int]], np.ndarray]
) -> list[Picture]:
    """A panel for each class asked for."""
    if not getattr(model, "num_classes", 0):
        explain([0] * len(images))  # says why this model has no class to explain
    with paddle.no_grad():
        chances = paddle.nn.functional.softmax(model(images).astype("float32"), axis=-1).numpy()
    columns = [chances.argmax(-1).tolist()] if o.targets is None else [[one] * len(images) for one in o.targets]
    maps = [explain(column) for column in columns]
    pictures = []
    for i in range(len(images)):
        classes = [column[i] for column in columns]
        titles = [f"{_class_name(o, k)} {100 * chances[i, k]:.1f}%" for k in classes]
        arrays = {label: np.stack([values[i] for values in maps]), "classes": np.array(classes)}
        row = [(title, _displayed(values[i], o)) for title, values in zip(titles, maps)]
        pictures.append(HeatPicture(f"{about}, for {', '.join(titles)}{_limits(o)}", arrays, [row], label))
    return list(pictures)


def _class_name(o: Options, label: int) -> str:
    return o.class_names[label] if o.class_names else f"class {label}"
