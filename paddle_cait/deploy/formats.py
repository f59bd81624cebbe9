"""What ``--formats`` asks for, and the packages that each format needs. Nothing is ever installed from here."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from paddle_cait.deploy.manifest import FORMATS
from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.versions import installed

log = logging.getLogger("paddle_cait")


@dataclass(frozen=True)
class Format:
    """A format and the precision of its weights: ``onnx``, ``openvino:fp16``. ``needs``: modules; ``extra``: ours."""

    format: str
    precision: str
    needs: tuple[str, ...] = ()
    extra: str = ""

    @property
    def name(self) -> str:
        return self.format if self.precision == "fp32" else f"{self.format}:{self.precision}"


_ONNX = ("paddle2onnx", "onnx")
KNOWN = {  # onnxruntime's quantisation imports ml_dtypes, its own requirements do not name it
    known.name: known
    for known in (
        Format("paddle", "fp32"),
        Format("onnx", "fp32", _ONNX, "onnx"),
        Format("onnx", "int8", (*_ONNX, "onnxruntime", "ml_dtypes"), "int8"),
        Format("openvino", "fp32", (*_ONNX, "openvino"), "openvino"),
        Format("openvino", "fp16", (*_ONNX, "openvino"), "openvino"),
        Format("openvino", "int8", (*_ONNX, "openvino", "nncf"), "int8"),
    )
}
PACKAGES = ("paddle2onnx", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "nncf")


def parse_formats(names: Sequence[str] | None) -> list[Format]:
    """``["onnx", "openvino:int8"]`` -> what to write, all of whose packages are there; None: what can be written."""
    if names is None:
        return _writable()
    if isinstance(names, str) or not names:
        raise ConfigError(f"formats are {names!r}, expected a list of some of {', '.join(KNOWN)}")
    for name in names:
        if name not in KNOWN:
            raise ConfigError(f"unknown format {name!r}, expected some of {', '.join(KNOWN)}")
    chosen = [KNOWN[name] for name in dict.fromkeys(names)]
    for wanted in chosen:
        for module in _missing(wanted):
            raise PaddleCaitError(f"the format {wanted.name} needs {module}: {_install(wanted)}")
    return sorted(chosen, key=lambda wanted: FORMATS.index(wanted.format))


def _writable() -> list[Format]:
    """Paddle, ONNX and OpenVINO, as far as their packages are there."""
    every = [KNOWN[name] for name in FORMATS]
    for wanted in every:
        if _missing(wanted):
            log.info("%s is left out, it needs %s: %s", wanted.name, ", ".join(_missing(wanted)), _install(wanted))
    return [wanted for wanted in every if not _missing(wanted)]


def _missing(wanted: Format) -> list[str]:
    return [module for module in wanted.needs if importlib.util.find_spec(module) is None]


def _install(wanted: Format) -> str:
    return f"pip install 'paddle_cait[{wanted.extra}]'"


def package_versions() -> dict[str, str]:
    """The versions of the packages that write or check a format, where they are installed."""
    return {name: version for name in PACKAGES if (version := installed(name)) is not None}
