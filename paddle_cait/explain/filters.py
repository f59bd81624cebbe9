"""The filters of the patch embedding as RGB pictures, and their principal components.

Dosovitskiy et al. 2021 (https://arxiv.org/abs/2010.11929), figure 7 left, shows the first 28 components of ViT-L/32:
basis functions of the fine structure within a patch.
"""

from __future__ import annotations

import numpy as np
from paddle import nn

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.tokens import array
from paddle_cait.layers.patch_embed import PatchEmbed


def patch_filters(model: nn.Layer) -> np.ndarray:
    """The weights that each channel gives to a patch's pixels, float64 [C, p, p, 3], as they are: around 0.

    Pixels are the model's normalised ones. Raises :class:`PaddleCaitError` for models whose patches have no RGB pixels:
    hybrids, GCViT, other numbers of input channels.
    """
    name, embed = type(model).__name__, getattr(model, "patch_embed", None)
    if embed is None:
        raise PaddleCaitError(f"{name}: has no patch embedding, expected a model of create_model")
    if not isinstance(embed, PatchEmbed):
        raise PaddleCaitError(f"{name}: has no filters of patches, its stem is a stack of overlapping convolutions")
    if embed.backbone is not None:
        raise PaddleCaitError(f"{name}: its patches are of a ResNet's output, not of pixels, and cannot be shown")
    weight = array(embed.proj.weight)
    if weight.shape[1] != 3:
        raise PaddleCaitError(f"{name}: its filters have {weight.shape[1]} channels, expected 3: red, green and blue")
    if not np.isfinite(weight).all():
        raise PaddleCaitError(f"{name}: its filters hold values that are not finite: the weights are damaged")
    return weight.transpose(0, 2, 3, 1)


def filter_components(model: nn.Layer, n: int = 28) -> np.ndarray:
    """The first ``n`` principal components of the filters, float64 [n, p, p, 3], each of length 1.

    The C filters are the samples, their mean is taken away. Each component's largest entry by size is positive: the
    sign of a component means nothing, and so it is always the same. Raises :class:`PaddleCaitError` for an ``n`` beyond
    their number, and for a ``model`` that :func:`patch_filters` refuses.
    """
    return _principal(model, n)[0]


def component_shares(model: nn.Layer, n: int = 28) -> np.ndarray:
    """The share of the filters' variance that each of the first ``n`` components explains, float64 [n], 0 to 1.

    ``model`` and what is raised: as of :func:`filter_components`.
    """
    return _principal(model, n)[1]


def _principal(model: nn.Layer, n: int) -> tuple[np.ndarray, np.ndarray]:
    filters = patch_filters(model)
    samples = filters.reshape(len(filters), -1)
    most = min(len(samples) - 1, samples.shape[1])  # the mean took one away
    if not 1 <= n <= most:
        raise PaddleCaitError(f"n is {n}, expected 1 to {most}: {len(samples)} filters have no more components")
    _, sizes, components = np.linalg.svd(samples - samples.mean(axis=0), full_matrices=False)
    if not sizes[0]:
        raise PaddleCaitError(f"{type(model).__name__}: all its filters are equal and have no components")
    components = components[:n]
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    shares = sizes[:n] ** 2 / (sizes**2).sum()
    return (components * np.sign(largest)).reshape(n, *filters.shape[1:]), shares
