"""From a pickle's value to a checkpoint's tree: every node becomes a leaf, every size is bounded, nothing recurses.

A pickle is a graph: a few lists that hold each other stand for a tree without end, or one with 2**100 leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable

from paddle_cait.errors import WeightsError
from paddle_cait.weights.pickle_values import Blob, Global, Node, Refusal
from paddle_cait.weights.tensors import MAX_NAME, MAX_TENSORS, Inert, TensorRef, quote

MAX_DEPTH = 64
MAX_VALUES = 500_000


@dataclass
class _Level:
    """A container being copied: what is left of it, what is done."""

    kind: type
    rest: Iterator[tuple[Any, Any]]
    done: list[tuple[Any, Any]]
    key: Any  # where the result belongs, one level up

    def finish(self) -> Any:
        if self.kind is dict:
            return dict(self.done)
        return self.kind(value for _, value in self.done)


def plain_tree(root: Any, error: Callable[[str], WeightsError]) -> dict[Any, Any]:
    """``root`` as nested dict/list/tuple with plain values, :class:`TensorRef` and :class:`Inert` leaves.

    Raises ``error(message)`` if it is no dict, too deep (a cycle is), too large, or holds a node that is no valid leaf.
    """
    if type(root) is not dict:
        found = root.kind if isinstance(root, Node) else type(root).__name__
        raise error(f"holds one {found}, expected a dict of named tensors (a state dict)")
    levels = [_open(root, None)]
    values = tensors = 0
    while True:
        level = levels[-1]
        key, value = next(level.rest, (None, level))
        if value is level:
            levels.pop()
            result = level.finish()
            if not levels:
                return dict(result)
            levels[-1].done.append((level.key, result))
            continue
        if type(key) is str and not key.isprintable():
            raise error(f"holds the name {quote(key)}, which is no printable text")
        values += 1
        if values > MAX_VALUES:
            raise error(f"holds more than {MAX_VALUES} values, no checkpoint needs that many")
        if type(value) in (dict, list, tuple):
            if len(levels) >= MAX_DEPTH:
                raise error(f"is nested deeper than {MAX_DEPTH} levels, or holds itself")
            levels.append(_open(value, key))
            continue
        leaf = _leaf(value, levels, key, error)
        tensors += isinstance(leaf, TensorRef)
        if tensors > MAX_TENSORS:
            raise error(f"holds more than {MAX_TENSORS} tensors, no model has that many")
        level.done.append((key, leaf))


def _open(container: Any, key: Any) -> _Level:
    items = container.items() if type(container) is dict else enumerate(container)
    return _Level(type(container), iter(items), [], key)


def _leaf(value: Any, levels: list[_Level], key: Any, error: Callable[[str], WeightsError]) -> Any:
    if isinstance(value, Node):
        name = ".".join(str(part) for part in [*(level.key for level in levels[1:]), key])
        if len(name) > MAX_NAME:
            raise error(f"holds a tensor whose name has {len(name)} letters: {quote(name)}")
        try:
            return value.leaf(name)
        except Refusal as refusal:
            raise error(f"{quote(name)}: {refusal}") from refusal
    if isinstance(value, Blob):
        return Inert("text" if value.text else "bytes", f"{value.length} bytes")
    if isinstance(value, Global):
        return Inert(value.name)
    return value
