"""Which items of a list are looked at, and in which batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paddle_cait.errors import ConfigError


def check(batch_size: int, workers: int, limit: int | None) -> None:
    """Raises :class:`ConfigError` for numbers that no run can have."""
    for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("limit", limit, 1)):
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}, expected at least {least}")


def spread(total: int, limit: int | None) -> list[int]:
    """Indices of all ``total`` items, or of ``limit`` of them evenly over the list."""
    if limit is None or limit >= total:
        return list(range(total))
    return [i * total // limit for i in range(limit)]


def batches(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """``indices`` in runs of ``size``, the last one shorter."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
