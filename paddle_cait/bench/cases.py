"""The rows of a benchmark: who, in which engine and precision, from which files."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from paddle_cait.errors import ConfigError

OURS, TIMM, TORCHVISION = "paddle_cait", "timm", "torchvision"
PRECISIONS = ("fp32", "bf16", "int8")
STEPS = ("inference", "training", "pipeline")
FORMS = ("matmul", "chain")
_TORCH = ("torch", "timm")


@dataclass(frozen=True)
class Case:
    """``kind``: what a worker opens. ``needs``: modules. ``source``: prepared files, of which it takes ``format``."""

    side: str
    engine: str
    precision: str
    kind: str
    needs: tuple[str, ...] = ()
    source: str = ""
    format: str = ""
    form: str = ""
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """``timm onnxruntime``, ``paddle_cait openvino (chain)``."""
        return f"{self.side} {self.engine}" + (f" ({self.form})" if self.form else "")

    @property
    def missing(self) -> str:
        """The first module that is needed and not installed, or an empty string."""
        return next((name for name in self.needs if importlib.util.find_spec(name) is None), "")


@dataclass(frozen=True)
class _Offer:
    """An engine and the precisions it computes in. ``runtime`` opens files of ``source``."""

    kind: str
    precisions: tuple[str, ...]
    needs: tuple[str, ...]
    runtime: str = ""
    format: str = ""
    source: str = ""
    options: dict[str, Any] = field(default_factory=dict)


_PADDLE = ("paddle",)
ENGINES = {
    "dygraph": _Offer("dygraph", ("fp32",), _PADDLE),
    "fused": _Offer("fused", ("fp32",), _PADDLE),
    "static": _Offer("static", ("fp32",), _PADDLE),
    "paddle": _Offer("runtime", ("fp32",), _PADDLE, "paddle", "paddle", "paddle", {"one_dnn": False}),
    "paddle-onednn": _Offer("runtime", ("fp32", "bf16"), _PADDLE, "paddle", "paddle", "paddle", {"one_dnn": True}),
    "onnxruntime": _Offer("runtime", ("fp32", "int8"), ("onnxruntime",), "onnxruntime", "onnx", "onnx"),
    "openvino": _Offer("runtime", PRECISIONS, ("openvino",), "openvino", "openvino", "openvino"),
}
PEERS = {
    "eager": _Offer("torch eager", ("fp32", "bf16"), _TORCH),
    "compile": _Offer("torch compile", ("fp32", "bf16"), _TORCH),
    "onnxruntime": _Offer("runtime", ("fp32",), (*_TORCH, "onnxruntime"), "onnxruntime", "onnx", "timm onnx"),
    "openvino": _Offer("runtime", ("fp32", "bf16"), (*_TORCH, "openvino"), "openvino", "onnx", "timm onnx"),
    "openvino-direct": _Offer(
        "runtime", ("fp32", "bf16"), (*_TORCH, "openvino"), "openvino", "openvino", "timm openvino"
    ),
}


def inference_cases(engines: Sequence[str], peers: Sequence[str], precisions: Sequence[str]) -> list[Case]:
    """Every engine and peer in every precision that it computes in."""
    ours = [_case(OURS, name, _known(name, ENGINES, "engine"), p) for p in precisions for name in engines]
    theirs = [_case(TIMM, name, _known(name, PEERS, "peer"), p) for p in precisions for name in peers]
    return [case for case in (*ours, *theirs) if case is not None]


def form_cases(engines: Sequence[str], precisions: Sequence[str]) -> list[Case]:
    """The runtimes among ``engines``, once for each form in which CaiT's heads can be mixed; int8 is left out."""
    cases = []
    for name in engines:
        offer = _known(name, ENGINES, "engine")
        for precision in precisions:
            if offer.runtime and precision in offer.precisions and precision != "int8":
                served = "paddle" if offer.runtime == "paddle" else "onnx"
                options = {**offer.options, "engine": offer.runtime}
                for form in FORMS:
                    cases.append(
                        Case(OURS, name, precision, offer.kind, offer.needs, f"form {form}", served, form, options)
                    )
    return cases


def training_cases() -> list[Case]:
    """Both sides, and both again with blocks computed anew in the backward pass: less memory, more time."""
    return [
        Case(side, engine, "fp32", kind, needs, form="recomputed" if again else "", options={"recompute": again})
        for again in (False, True)
        for side, engine, kind, needs in (
            (OURS, "dygraph", "train paddle", _PADDLE), (TIMM, "eager", "train torch", _TORCH),
        )
    ]  # fmt: skip


def pipeline_cases() -> list[Case]:
    return [
        Case(OURS, "pipeline", "exact", "pipeline paddle_cait"),
        Case(TORCHVISION, "pipeline", "exact", "pipeline torchvision", ("torch", "torchvision")),
    ]


def ceiling_cases(precisions: Sequence[str]) -> list[Case]:
    """Large products of matrices, in float32 and, where it is asked for, bfloat16."""
    found = []
    for library in ("numpy", "torch", "openvino"):
        for precision in ("fp32", "bf16"):
            if precision in precisions and (library, precision) != ("numpy", "bf16"):
                found.append(Case("matmul", library, precision, f"matmul {library}", (library,)))
    return found


def _case(side: str, name: str, offer: _Offer, precision: str) -> Case | None:
    if precision not in offer.precisions:
        return None
    source = f"{offer.source}:int8" if precision == "int8" else offer.source
    options = {**offer.options, "engine": offer.runtime} if offer.runtime else {}
    return Case(side, name, precision, offer.kind, offer.needs, source, offer.format, "", options)


def _known(name: str, table: dict[str, _Offer], what: str) -> _Offer:
    if name not in table:
        raise ConfigError(f"unknown {what} {name!r}, expected some of {', '.join(table)}")
    return table[name]
