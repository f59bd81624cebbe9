"""Where the tokens of an attention layer lie on the image: what turns a map of attention into a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

Pair = tuple[int, int]  # along height, along width


@dataclass(frozen=True)
class TokenLayout:
    """Of one attention layer, whose map is [B, heads, queries, keys].

    ``kind``, which tokens ask (queries) and answer (keys):

    - ``tokens``: all tokens ask all tokens: the prefix (class tokens, registers), then the patches row by row;
    - ``class``: the class token alone asks: [B, heads, 1, 1 + patches];
    - ``windows``: the patches of a window ask each other, [B * windows, heads, T, T]: windows row by row, and the T
      patches of a window row by row. With ``shared`` the queries are the image's global ones, the same in all windows.

    Attributes:
        grid: patches of the map along height and width.
        stride: pixels from one patch to the next.
        class_tokens, registers: how many of each stand before the patches.
        rows_sum_to_one: False for talking heads, whose maps are mixed after the softmax.
        side: windows along a side of the map; 1 without windows.
    """

    kind: str
    grid: Pair
    stride: Pair
    class_tokens: int = 0
    registers: int = 0
    rows_sum_to_one: bool = True
    side: int = 1
    shared: bool = False

    @property
    def prefix(self) -> int:
        """Tokens before the patches."""
        return self.class_tokens + self.registers

    @property
    def window(self) -> Pair:
        """Patches of one window along height and width; the last windows may reach beyond the map."""
        return math.ceil(self.grid[0] / self.side), math.ceil(self.grid[1] / self.side)
