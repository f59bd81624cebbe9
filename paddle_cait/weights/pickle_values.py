"""The values a pickle may have here: plain ones, bytes left in the file, and inert stand-ins for objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable


class Refusal(Exception):  # noqa: N818 - it is one, not an error in this code
    """Raised by a constructor or node for arguments it does not take; the message lacks file and position."""


@dataclass(frozen=True)
class Blob:
    """Bytes that were left in the file. ``text``: they are UTF-8 whose characters stand for one byte each (latin-1)."""

    offset: int
    length: int
    text: bool = False


class Node:
    """Base of our inert stand-ins for objects. ``leaf`` turns one into what the checkpoint's tree shows."""

    __slots__ = ()
    kind = "object"

    def build(self, state: object) -> None:
        raise Refusal(f"{self.kind} takes no state")

    def leaf(self, name: str) -> Any:
        raise Refusal(f"{self.kind} is no weight")


@dataclass(frozen=True)
class Global:
    """What a ``module.name`` in a pickle stands for. ``make`` gets the arguments and returns an inert value."""

    name: str
    make: Callable[[tuple[Any, ...]], Any] | None = None


Globals = Mapping[tuple[str, str], Global]


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """A plain dict. Python 3 fills it afterwards; Python 2 wrote its items as an argument, a list of pairs."""
    pairs = arguments[0] if arguments else []
    if len(arguments) > 1 or type(pairs) is not list:
        raise Refusal("expected nothing, or a list of pairs")
    found: dict[Any, Any] = {}
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2 or type(pair[0]) is not str or pair[0] in found:
            raise Refusal("expected pairs of different names and values")
        found[pair[0]] = pair[1]
    return found


ORDERED_DICT = Global("OrderedDict", _ordered_dict)
