"""What was computed lately, as long as it fits: results by key, the least used dropped first."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np


class Memo:
    """At most ``most_bytes`` of arrays, counted through tuples, lists, dicts and dataclasses. Any thread may ask."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """The value, or None."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep ``value``, unless it alone is too large."""
        size = 1024 + size_of(value)  # the entry itself is not free: small ones must not gather without end
        with self._lock:
            self.bytes -= self._kept.pop(key, (None, 0))[1]
            if size > self.most_bytes:
                return
            self._kept[key] = value, size
            self.bytes += size
            while self.bytes > self.most_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self.bytes -= freed


def size_of(value: Any) -> int:
    """Bytes of the arrays in ``value``."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if dataclasses.is_dataclass(value):
        return sum(size_of(getattr(value, one.name)) for one in dataclasses.fields(value))
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(size_of, value))
    return 0
