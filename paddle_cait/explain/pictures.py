"""Pictures that draw themselves: what a method found in one photograph, or in the weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.photographs import framed
from paddle_cait.layers.token_layout import Pair

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture(ABC):
    """What a method found. ``about``: a line for the caption; ``arrays``: its numbers, as they go into a .npz."""

    about: str
    arrays: dict[str, np.ndarray]

    @abstractmethod
    def figure(self, photo: np.ndarray | None, caption: str, **style: Any) -> Figure:
        """Drawn, with ``caption`` below. ``photo``: uint8 [H, W, 3], for what lies over one, :class:`PaddleCaitError`
        without it; ``style``: as the function has it that draws this kind (``paddle_cait.explain.render``)."""


@dataclass(frozen=True)
class HeatPicture(Picture):
    """Maps to lay over the photograph: ``rows`` of (title, [grid h, grid w]); ``label`` says what is measured.

    ``mark``: the (row, column) of a patch to be framed in the photograph.
    """

    rows: list[list[tuple[str, np.ndarray]]] = field(default_factory=list)
    label: str = ""
    mark: Pair | None = None

    def figure(self, photo: np.ndarray | None, caption: str, **style: Any) -> Figure:
        from paddle_cait.explain.render import Panel, heat_figure

        rows = [[Panel(title, values) for title, values in row] for row in self.rows]
        if photo is None:
            raise PaddleCaitError("this picture lies over a photograph: give it")
        if self.mark is not None:
            photo = framed(photo, self.mark, self.heat.shape)
        return heat_figure(photo, rows, caption=caption, label=self.label, **style)

    @property
    def heat(self) -> np.ndarray:
        """One map, for a video: the mean of the last row's."""
        return np.mean([values for _, values in self.rows[-1]], axis=0)


@dataclass(frozen=True)
class DistancePicture(Picture):
    """Mean attention distance [layers, heads] in pixels; ``spread``: its deviation over images."""

    spread: np.ndarray | None = None

    def figure(self, photo: np.ndarray | None, caption: str, **style: Any) -> Figure:
        from paddle_cait.explain.render import distance_figure

        names: list[str] | None = [str(name) for name in self.arrays["layers"]]
        if names == [f"blocks.{i}.attn" for i in range(len(self.arrays["layers"]))]:
            names = None  # numbers say it
        return distance_figure(self.arrays["distance"], caption=caption, names=names, spread=self.spread)


@dataclass(frozen=True)
class FiltersPicture(Picture):
    def figure(self, photo: np.ndarray | None, caption: str, **style: Any) -> Figure:
        from paddle_cait.explain.render import filters_figure

        return filters_figure(self.arrays["filters"], caption=caption)


@dataclass(frozen=True)
class PositionsPicture(Picture):
    label: str = ""
    limits: tuple[float, float] | None = None

    def figure(self, photo: np.ndarray | None, caption: str, **style: Any) -> Figure:
        from paddle_cait.explain.render import positions_figure

        return positions_figure(self.arrays["similarity"], caption=caption, label=self.label, limits=self.limits)
