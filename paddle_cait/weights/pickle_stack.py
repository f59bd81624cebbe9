"""Stack and memo of a pickle, and the opcodes that put plain values and containers there. Everything is bounded."""

from __future__ import annotations

import struct
from typing import Any

from paddle_cait.errors import WeightsError
from paddle_cait.weights.byte_source import Window
from paddle_cait.weights.pickle_values import Blob
from paddle_cait.weights.tensors import quote

MAX_MARKS = 1_000
MAX_TEXT = 4_096  # a longer text stays in the file: it is an array's data, or nothing that matters here
MAX_TEXT_TOTAL = 64 << 20
MAX_LINE = 512
MAX_INT_BYTES = 64
MAX_INT_KEYS = 50_000  # integers hash to themselves: chosen keys could make every look-up walk through all others
MAX_MEMO_GAP = 1_024  # picklers number the memo 0, 1, 2, ...


class PickleStack:
    """What a pickle builds, opcode by opcode. Any misuse is a :class:`WeightsError`."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each open MARK
        self.memo: dict[int, Any] = {}
        self.text_total = 0
        self.int_keys = 0

    def error(self, message: str) -> WeightsError:
        return self.window.error(f"{message} (at byte {self.window.position})")

    def malformed(self, why: str) -> WeightsError:
        return self.error(f"is no valid pickle: {why}")

    # Stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise self.malformed("an opcode takes more than was put on the stack")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise self.malformed("an opcode needs a value and the stack is empty")
        return self.stack[-1]

    def stop(self) -> Any:
        value = self.pop()
        if self.stack or self.outer:
            raise self.malformed("values are left over at its end")
        return value

    def mark(self) -> None:
        if len(self.outer) >= MAX_MARKS:
            raise self.error(f"is nested deeper than {MAX_MARKS} levels")
        self.outer.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        if not self.outer:
            raise self.malformed("an opcode needs a MARK and there is none")
        items, self.stack = self.stack, self.outer.pop()
        return items

    # Memo

    def put(self, index: int) -> None:
        if not 0 <= index <= len(self.memo) + MAX_MEMO_GAP:
            raise self.error(f"stores memo number {index} with {len(self.memo)} in use")
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise self.malformed(f"memo number {index} was never stored")
        self.stack.append(self.memo[index])

    # Plain values

    def number(self, layout: str) -> int:
        value: int = struct.unpack(layout, self.window.take(struct.calcsize(layout)))[0]
        return value

    def push_float(self) -> None:
        self.stack.extend(struct.unpack(">d", self.window.take(8)))

    def push_int_line(self) -> None:
        """Python 2 wrote integers beyond 32 bits as text, and booleans as 00 and 01."""
        line = self.window.line(MAX_LINE)
        if line in (b"00", b"01"):
            self.stack.append(line == b"01")
        elif line.removeprefix(b"-").isdigit() and len(line) <= 3 * MAX_INT_BYTES:
            self.stack.append(int(line))
        else:
            raise self.malformed(f"{quote(line)} is no integer")

    def push_long(self) -> None:
        length = self.window.take(1)[0]
        if length > MAX_INT_BYTES:
            raise self.error(f"holds an integer of {length} bytes, expected at most {MAX_INT_BYTES}")
        self.stack.append(int.from_bytes(self.window.take(length), "little", signed=True))

    def push_text(self, length: int) -> None:
        if length > MAX_TEXT:
            self.stack.append(Blob(self.window.skip(length), length, text=True))
            return
        try:  # strict, where pickle would let lone surrogates pass: no name and no array has them
            self.stack.append(self.eager(length).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise self.malformed("a text is no UTF-8") from error

    def push_string(self, length: int) -> None:
        """A Python 2 ``str``: text, or an array's data."""
        if length < 0:
            raise self.malformed("a string has a negative length")
        if length > MAX_TEXT:
            self.push_bytes(length)
        else:
            self.stack.append(self.eager(length).decode("latin-1"))

    def eager(self, length: int) -> bytes:
        self.text_total += length
        if self.text_total > MAX_TEXT_TOTAL:
            raise self.error(f"holds more than {MAX_TEXT_TOTAL >> 20} MiB of texts")
        return self.window.take(length)

    def push_bytes(self, length: int) -> None:
        self.stack.append(Blob(self.window.skip(length), length))

    # Containers

    def tuple_of(self, count: int) -> None:
        items = tuple(reversed([self.pop() for _ in range(count)]))
        self.stack.append(items)

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise self.malformed("values are appended to something that is no list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not dict or len(items) % 2:
            raise self.malformed("items are set in something that is no dict")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is int:
                self.int_keys += 1
                if self.int_keys > MAX_INT_KEYS or key.bit_length() > 31:
                    raise self.error(f"has integer dict keys beyond 31 bits, or more than {MAX_INT_KEYS} of them")
            elif type(key) is not str:
                raise self.error(f"has a dict key that is neither a text nor an integer ({type(key).__name__})")
            if key in target:
                raise self.error(f"has the dict key {quote(key)} twice")
            target[key] = value
