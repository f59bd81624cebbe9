"""Safetensors files whose header lies, and files that are no checkpoint at all."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from typing import Any

import make_files as make
import numpy as np

ONES = np.ones(12, np.float32)


def safetensors() -> dict[str, Callable[[], bytes]]:
    data = ONES.tobytes()

    def one(**changes: Any) -> Callable[[], bytes]:
        entry = {"dtype": "F32", "shape": [12], "data_offsets": [0, 48], **changes}
        return lambda: make.safetensors({"a": {key: value for key, value in entry.items() if value != "absent"}}, data)

    def two(first: list[int], second: list[int]) -> Callable[[], bytes]:
        entries = {
            n: {"dtype": "U8", "shape": [b - a], "data_offsets": [a, b]} for n, (a, b) in zip("ab", (first, second))
        }
        return lambda: make.safetensors(entries, data)

    def text(header: str, length: int | None = None) -> Callable[[], bytes]:
        return lambda: make.safetensors(header.encode(), data, length)

    good = '{"dtype":"F32","shape":[12],"data_offsets":[0,48]}'
    return {
        "header of 9 EB": text("{}", (1 << 63) - 1),
        "header of 2**64 - 1": text("{}", (1 << 64) - 1),
        "header of 100 MB": text("{}", 100_000_000),
        "header beyond the file": text("{}", 1000),
        "header of 0 bytes": text("{}", 0),
        "header is a list": text("[]"),
        "header is a number": text("{1}"),
        "header ends early": text('{"a":'),
        "header goes on": text("{}{}"),
        "header no UTF-8": lambda: make.safetensors(b'{"\xff":1}', data),
        "name twice": text(f'{{"a":{good},"a":{good}}}'),
        "name twice, escaped": text(f'{{"a":{good},"\\u0061":{good}}}'),
        "field twice": text('{"a":{"dtype":"F32","dtype":"F32","shape":[12],"data_offsets":[0,48]}}'),
        "metadata twice": text(f'{{"__metadata__":{{}},"__metadata__":{{}},"a":{good}}}'),
        "metadata of numbers": text(f'{{"__metadata__":{{"a":1}},"a":{good}}}'),
        "metadata is a list": text(f'{{"__metadata__":[],"a":{good}}}'),
        "metadata is null": text(f'{{"__metadata__":null,"a":{good}}}'),
        "deep lists": text('{"a":' + "[" * 90_000),
        "deep objects": text('{"a":' * 90_000),
        "deeper objects": text('{"a":' * 5_000_000),
        "90 MB of lists": lambda: make.safetensors(b'{"a":[' + b"[]," * 30_000_000 + b"[]]}", data),
        "90 MB of objects": lambda: make.safetensors(b'{"a":[' + b"{}," * 30_000_000 + b"{}]}", data),
        "90 MB of numbers": lambda: make.safetensors(b'{"a":[' + b"1," * 45_000_000 + b"1]}", data),
        "90 MB of text": lambda: make.safetensors(b'{"a":"' + b"\\u4e2d" * 15_000_000 + b'"}', data),
        "90 MB of digits": lambda: make.safetensors(b'{"a":' + b"9" * 90_000_000 + b"}", data),
        "1000 long names": lambda: make.safetensors(
            json.dumps({f"{i}" + "x" * 10_000: {} for i in range(1000)}).encode(), data
        ),
        "number of 5000 digits": text('{"a":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,48]}}'),
        "shape of NaN": text('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,48]}}'),
        "shape of Infinity": text('{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,48]}}'),
        "shape of 1e1": text('{"a":{"dtype":"F32","shape":[1.2e1],"data_offsets":[0,48]}}'),
        "dtype unknown": one(dtype="F8_E4M3"),
        "dtype is a list": one(dtype=["F32"]),
        "dtype is null": one(dtype=None),
        "dtype too wide": one(dtype="F64"),
        "shape too large": one(shape=[13]),
        "shape too small": one(shape=[11]),
        "shape negative": one(shape=[-12]),
        "shape of negatives": one(shape=[-3, -4]),
        "shape of products": one(shape=[1 << 32, 1 << 32, 1 << 32]),
        "shape of products and 0": one(shape=[1 << 62, 0], data_offsets=[0, 0]),
        "shape of true": one(shape=[True] * 2, data_offsets=[0, 4]),
        "shape of texts": one(shape=["12"]),
        "shape is a text": one(shape="12"),
        "shape of 100 dimensions": one(shape=[1] * 100, data_offsets=[0, 4]),
        "no dtype": one(dtype="absent"),
        "no shape": one(shape="absent"),
        "no offsets": one(data_offsets="absent"),
        "one field more": one(extra=1),
        "offsets swapped": one(data_offsets=[48, 0]),
        "offsets negative": one(data_offsets=[-48, 0]),
        "offsets beyond the file": one(data_offsets=[48, 96]),
        "offsets beyond 64 bits": one(shape=[1 << 70], data_offsets=[0, 1 << 72]),
        "offsets of three": one(data_offsets=[0, 24, 48]),
        "offsets of floats": one(data_offsets=[0.0, 48.0]),
        "offsets are an object": one(data_offsets={}),
        "huge tensor": one(shape=[1 << 50], data_offsets=[0, 1 << 52]),
        "overlap": two([0, 30], [20, 48]),
        "the same bytes": two([0, 48], [0, 48]),
        "gap": two([0, 20], [28, 48]),
        "gap at the beginning": two([4, 20], [20, 48]),
        "bytes left over": two([0, 20], [20, 40]),
        "an entry is a number": text('{"a":1}'),
        "an entry is null": text('{"a":null}'),
        "an entry is a list": text('{"a":[]}'),
        "name of two lines": text(f'{{"a\\nb":{good}}}'),
        "name of a lone surrogate": text(f'{{"\\ud800":{good}}}'),
        "name of 600 letters": lambda: make.safetensors(
            {"x" * 600: {"dtype": "F32", "shape": [12], "data_offsets": [0, 48]}}, data
        ),
    }


def strange() -> dict[str, bytes]:
    """Files that are no checkpoint at all."""
    table = io.BytesIO()
    np.save(table, ONES)
    return {
        "one byte": b"\x80",
        "two bytes": b"PK",
        "eight bytes": b"\0" * 8,
        "nine bytes": b"\0" * 8 + b"{",
        "pickle of protocol 0": pickle.dumps({"a": 1}, 0),
        "pickle of protocol 1": pickle.dumps({"a": 1}, 1),
        "npy": table.getvalue(),
        "zip local header alone": b"PK\x03\x04" + bytes(200),
        "zip end alone": b"PK\x05\x06" + bytes(18),
        "html": b"<!doctype html>",
        "json": b'{"model": {}}',
        "noise": np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8).tobytes(),
    }
