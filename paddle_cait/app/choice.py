"""What a visitor has chosen, and which of it each method uses."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from paddle_cait.explain.capture import TokenLayout
from paddle_cait.explain.catalogue import OF_WEIGHTS
from paddle_cait.explain.methods import Options

Spot = tuple[float, float]  # down and across what is seen of the photograph, from 0 to below 1

DIAGRAMS = ("distance", *OF_WEIGHTS)  # methods that draw nothing over the photograph
SHOWS = ("all", "one", "mean")  # heads: each beside the other, the chosen one, their mean

# The controls that concern each method; all have the checkpoint, the photograph and the opacity.
USES: dict[str, frozenset[str]] = {
    "class-attention": frozenset({"layer", "show", "head", "threshold"}),
    "saliency": frozenset({"layer"}),
    "rollout": frozenset({"fusion", "discard"}),
    "gradient": frozenset({"targets"}),
    "patch-attention": frozenset({"layer", "show", "head", "threshold", "spot"}),
    "windows": frozenset({"layer", "show", "head", "threshold", "spot"}),
    "grad-cam": frozenset({"targets", "level"}),
    "distance": frozenset(),
    "filters": frozenset(),
    "components": frozenset(),
    "positions": frozenset({"metric"}),
}


@dataclass(frozen=True)
class Choice:
    """``upload``: the photograph's file, None before there is one; ``layer``: place among those that the method can
    look at; ``threshold``: show the patches that hold this share, 1 is all; ``spot``: where the visitor clicked."""

    checkpoint: str
    model: str
    upload: str | None = None
    fit: str = "crop"
    method: str = "class-attention"
    layer: int = -1
    show: str = "all"
    head: int = 0
    threshold: float = 1.0
    fusion: str = "mean"
    discard: float = 0.0
    targets: tuple[int, ...] = ()
    level: int = -1
    metric: str = "cosine"
    spot: Spot | None = None

    @property
    def uses(self) -> frozenset[str]:
        return USES.get(self.method, frozenset())

    def relevant(self) -> Choice:
        """The same without what the method does not use: equal choices give equal pictures."""
        used = {"checkpoint", "model", "method", *self.uses}
        if self.method not in OF_WEIGHTS:
            used |= {"upload", "fit"}
        if self.show != "one":
            used.discard("head")
        unused: dict[str, Any] = {one.name: one.default for one in fields(self) if one.name not in used}
        return replace(self, **unused)

    def heads(self, count: int) -> tuple[int, ...] | None:
        """As :class:`Options` has them, of a layer with ``count`` heads."""
        if self.show == "one":
            return (min(max(self.head, 0), count - 1),)
        return () if self.show == "mean" else None

    def options(self, layer: str | None = None, layout: TokenLayout | None = None, heads: int = 0) -> Options:
        """What of it concerns the method; ``layer``, its layout and number of heads where it looks at one."""
        spot = None if layout is None else patch_at(self.spot, layout)
        asked: dict[str, Any] = {
            "layers": (layer,) if layer is not None else None,
            "heads": self.heads(heads) if heads else None,
            "threshold": self.threshold if "threshold" in self.uses and self.threshold < 1 else None,
            "query": spot if "spot" in self.uses else None,
            "head_fusion": self.fusion,
            "discard_ratio": self.discard if "discard" in self.uses else 0.0,
            "targets": self.targets if "targets" in self.uses and self.targets else None,
            "level": self.level,
            "metric": self.metric,
        }
        return Options(**asked)


def patch_at(spot: Spot | None, layout: TokenLayout) -> tuple[int, int] | None:
    """The (row, column) of the patch at ``spot``: on the layer's map, or within its window."""
    if spot is None:
        return None
    row, column = (min(max(int(part * count), 0), count - 1) for part, count in zip(spot, layout.grid))
    if layout.kind == "windows":
        return row % layout.window[0], column % layout.window[1]
    return row, column


def frame_at(spot: Spot | None, grid: tuple[int, ...]) -> tuple[float, float, float, float]:
    """(top, left, bottom, right) of the patch of ``grid`` at ``spot``, or in the middle, in parts of the photograph."""
    row, column = (min(int(part * count), count - 1) for part, count in zip(spot or (0.5, 0.5), grid))
    return row / grid[0], column / grid[1], (row + 1) / grid[0], (column + 1) / grid[1]
