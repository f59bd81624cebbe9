"""Versions of what a result depends on, for reports; asked without importing any of it."""

from __future__ import annotations

import platform
from importlib import metadata

__version__ = "0.1.0"

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "pillow", "opencv-python", "opencv-python-headless")


def installed(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Name -> version of this package, Python, Paddle and the packages that touch numbers; missing ones are absent."""
    found = {name: version for name in PACKAGES if (version := installed(name)) is not None}
    return {"paddle_cait": __version__, "python": platform.python_version(), **found}
