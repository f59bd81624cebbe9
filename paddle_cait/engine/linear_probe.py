"""The authors' linear classifiers on frozen features of DINO and DINOv2.

Official sources: facebookresearch/dino, eval_linear.py, and facebookresearch/dinov2, hub/classifiers.py. A classifier
is one Linear layer; what tells them apart is the features it sees, its *form*. Every token has passed the final norm.

========================  ======  ==========================================================================
form                      F       features
========================  ======  ==========================================================================
``cls4``                  4 C     class tokens of the last 4 blocks, oldest first (DINO, ViT-S)
``cls1_avg_interleaved``  2 C     class token and mean patch of the last block in turn, channel by channel:
                                  cls_0, avg_0, cls_1, avg_1, ... (DINO, ViT-B)
``cls1_avg``              2 C     the same, one after the other (DINOv2, 1 layer)
``cls4_avg``              5 C     class tokens of the last 4 blocks, then the mean patch of the last (DINOv2)
========================  ======  ==========================================================================

Other numbers of blocks are named alike (``cls2``, ``cls3_avg``); the official code interleaves one block only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import paddle
from paddle import Tensor, nn

from paddle_cait.errors import PaddleCaitError, WeightsError


@dataclass(frozen=True)
class LinearForm:
    """Which features a linear classifier sees: class tokens of the last ``blocks`` blocks, oldest first.

    ``average``: then the mean patch of the last block; ``interleaved``: with it channel by channel.
    """

    blocks: int
    average: bool = False
    interleaved: bool = False

    @classmethod
    def parse(cls, name: str) -> LinearForm:
        """``cls4``, ``cls1_avg``, ``cls1_avg_interleaved``, ...; :class:`PaddleCaitError` for another name."""
        match = re.fullmatch(r"cls([1-9]\d?)(_avg)?|cls1_avg_interleaved", name)
        if match is None:
            raise PaddleCaitError(
                f"the form of linear features is {name!r}, expected clsN, clsN_avg (N blocks) or cls1_avg_interleaved"
            )
        return cls(int(match[1]), bool(match[2])) if match[1] else cls(1, True, True)

    def __str__(self) -> str:
        return f"cls{self.blocks}" + "_avg" * self.average + "_interleaved" * self.interleaved

    def width(self, dim: int) -> int:
        """F of a backbone of width ``dim``."""
        return (self.blocks + self.average) * dim

    def features(self, tokens: Sequence[Tensor], num_prefix_tokens: int) -> Tensor:
        """[B, F] from the tokens of the last blocks, each [B, num_prefix_tokens + N, C], oldest first."""
        parts = [block[:, 0] for block in tokens]
        if self.average:
            parts.append(tokens[-1][:, num_prefix_tokens:].mean(axis=1))
        return paddle.stack(parts, axis=-1).flatten(1) if self.interleaved else paddle.concat(parts, axis=-1)


# The forms of the files that were published, by the family of the backbone.
OFFICIAL_FORMS = {
    "dino": (LinearForm(4), LinearForm(1, average=True, interleaved=True)),
    "dinov2": (LinearForm(1, average=True), LinearForm(4, average=True)),
}


def choose_form(features: int, dim: int, family: str | None, where: str = "the linear weights") -> LinearForm:
    """The official form with ``features`` inputs on a backbone of width ``dim``.

    ``family``: ``dino``, ``dinov2``, or anything else where all forms are possible. Raises :class:`WeightsError` when
    none fits, or two: DINO's and DINOv2's forms of one block have the same width and another order of channels.
    """
    known = OFFICIAL_FORMS.get(family or "", tuple(form for forms in OFFICIAL_FORMS.values() for form in forms))
    fitting = [form for form in known if form.width(dim) == features]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f"{form} ({form.width(dim)})" for form in (fitting or known))
    problem = "several forms fit" if fitting else "none of the known forms fits"
    raise WeightsError(
        f"{where}: a classifier of {features} features on a backbone of width {dim}: {problem}, expected {names}; "
        "name the form if you know it (--linear-form), or check that the two files belong together"
    )


class LinearHead(Protocol):
    """What a probe needs of a classifier's file (:mod:`paddle_cait.weights.linear_head`)."""

    @property
    def weight(self) -> np.ndarray: ...

    @property
    def bias(self) -> np.ndarray: ...

    @property
    def path(self) -> str: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class ProbeReport:
    """Where a probe's weights come from. ``sha256`` covers both files and the form; empty without a backbone's file."""

    path: str
    sha256: str
    notes: list[str] = field(default_factory=list)


class LinearProbe(nn.Layer):
    """[B, 3, H, W] float32 -> logits [B, classes]: a frozen backbone and a linear classifier on its features.

    Evaluate it like any model. ``preset``, ``img_size`` are the backbone's; ``form`` says which features are used,
    by default the official one of that width (:func:`choose_form`).

    Args:
        backbone: of the ViT line, built with ``num_classes=0``.
        linear: what ``weights.linear_head.read_linear_head`` gives.
        form: a :class:`LinearForm` or its name.

    Raises :class:`PaddleCaitError` for another backbone or name, :class:`WeightsError` for a classifier whose width
    does not fit.
    """

    def __init__(self, backbone: nn.Layer, linear: LinearHead, form: LinearForm | str | None = None) -> None:
        super().__init__()
        if not hasattr(backbone, "get_intermediate_layers"):
            raise PaddleCaitError(
                f"{type(backbone).__name__} has no get_intermediate_layers: linear classifiers need a ViT backbone"
            )
        self.preset = getattr(backbone, "preset", None)
        self.img_size = getattr(backbone, "img_size", None)
        self.num_classes, features = linear.weight.shape
        dim, family = int(backbone.num_features), getattr(self.preset, "family", None)
        if form is None:
            form = choose_form(features, dim, family, linear.path)
        self.form = LinearForm.parse(form) if isinstance(form, str) else form
        if self.form.width(dim) != features:
            raise WeightsError(
                f"{linear.path}: a classifier of {features} features, expected {self.form.width(dim)} for the form "
                f"{self.form} on a backbone of width {dim}"
            )
        self.backbone = backbone
        self.linear = nn.Linear(features, self.num_classes)
        self.linear.weight.set_value(np.ascontiguousarray(linear.weight.T))  # Paddle's is [in, out]
        self.linear.bias.set_value(linear.bias)
        self.load_report = _report(getattr(backbone, "load_report", None), linear, self.form)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [B, 3, H, W], normalised -> float32 logits [B, num_classes]."""
        tokens = self.backbone.get_intermediate_layers(x, self.form.blocks)
        return self.linear(self.form.features(tokens, self.backbone.num_prefix_tokens))


def _report(backbone: Any, linear: LinearHead, form: LinearForm) -> ProbeReport:
    if backbone is None or not backbone.sha256:
        return ProbeReport(linear.path, "")
    both = f"{backbone.sha256} {linear.sha256} {form}"
    return ProbeReport(f"{backbone.path} + {linear.path}", hashlib.sha256(both.encode()).hexdigest(), backbone.notes)
