"""A pickle interpreter that cannot run anything: it builds dicts, lists, tuples, plain values and our own inert nodes.

It knows the opcodes that ``torch.save``, ``paddle.save`` and numpy emit at protocols 2 to 5 and refuses the others by
name. A global is looked up in the caller's table and nowhere else; nothing is imported. Long bytes and texts stay in
the file, as :class:`Blob`. Opcodes, memo, nesting, texts and integers are bounded, so a file of n bytes costs O(n).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, ClassVar

from paddle_cait.weights.byte_source import Window
from paddle_cait.weights.pickle_stack import MAX_LINE, PickleStack
from paddle_cait.weights.pickle_values import Global, Globals, Node, Refusal
from paddle_cait.weights.tensors import quote

MAX_OPCODES = 2_000_000  # a checkpoint needs about 50 for each tensor

_OPCODE_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}


def run_pickle(
    window: Window, known: Globals, persistent: Callable[[Any], Any] | None = None, limit: int = MAX_OPCODES
) -> Any:
    """The value of the pickle that begins at ``window.position``; afterwards the window stands behind its STOP.

    ``persistent`` resolves torch's storage references. Raises :class:`WeightsError` for anything unknown or malformed,
    and for more than ``limit`` opcodes.
    """
    return _Machine(window, known, persistent).run(limit)


class _Machine(PickleStack):
    """The opcodes, and the objects: out of the caller's table or not at all."""

    def __init__(self, window: Window, known: Globals, persistent: Callable[[Any], Any] | None) -> None:
        super().__init__(window)
        self.known = known
        self.persistent = persistent

    def run(self, limit: int) -> Any:
        take, handlers = self.window.take, self.handlers
        for _ in range(limit):
            code = take(1)[0]
            if code == 0x2E:  # STOP
                return self.stop()
            handler = handlers.get(code)
            if handler is None:
                name = _OPCODE_NAMES.get(code)
                what = f"the pickle opcode {name}, which no checkpoint needs" if name else f"byte 0x{code:02x}"
                raise self.error(f"holds {what}; nothing was executed")
            handler(self)
        raise self.error(f"has more than {limit} pickle opcodes, no checkpoint needs that many")

    def push_global(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise self.malformed("the name of a global is no text")
        found = self.known.get((module, name))
        if found is None:
            raise self.error(
                f"refers to {quote(module + '.' + name)}, which is no plain weight data; nothing was executed; "
                "in the original framework, save the state dict alone and convert that"
            )
        self.stack.append(found)

    def push_global_lines(self) -> None:
        module, name = self.window.line(MAX_LINE), self.window.line(MAX_LINE)
        self.push_global(module.decode("latin-1"), name.decode("latin-1"))

    def push_stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.push_global(module, name)

    def call(self) -> None:
        arguments, target = self.pop(), self.pop()
        if not isinstance(target, Global) or type(arguments) is not tuple:
            raise self.error("calls something that is no known global; nothing was executed")
        if target.make is None:
            raise self.error(f"calls {target.name}, which is a mere name here; nothing was executed")
        try:
            self.stack.append(target.make(arguments))
        except Refusal as error:
            raise self.error(f"{target.name}: {error}") from error

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if type(target) is dict and type(state) is dict:
            return  # a state dict's `_metadata` attribute: module versions, no weights
        if not isinstance(target, Node):
            raise self.error(f"sets the state of a {type(target).__name__}; nothing was executed")
        try:
            target.build(state)
        except Refusal as error:
            raise self.error(str(error)) from error

    def push_persistent(self) -> None:
        identity = self.pop()
        if self.persistent is None:
            raise self.error("refers to data outside the pickle, expected none")
        try:
            self.stack.append(self.persistent(identity))
        except Refusal as error:
            raise self.error(str(error)) from error

    def check_protocol(self) -> None:
        version = self.window.take(1)[0]
        if not 2 <= version <= 5:
            raise self.error(f"is a pickle of protocol {version}, expected 2 to 5")

    def check_frame(self) -> None:
        self.window.require(self.number("<Q"))

    handlers: ClassVar[dict[int, Callable[[_Machine], None]]] = {
        ord(code): handler
        for code, handler in {
            "\x80": check_protocol,
            "\x95": check_frame,
            "(": PickleStack.mark,
            "N": lambda m: m.push(None),
            "\x88": lambda m: m.push(True),
            "\x89": lambda m: m.push(False),
            "K": lambda m: m.push(m.window.take(1)[0]),
            "M": lambda m: m.push(m.number("<H")),
            "J": lambda m: m.push(m.number("<i")),
            "I": PickleStack.push_int_line,
            "\x8a": PickleStack.push_long,
            "G": PickleStack.push_float,
            "U": lambda m: m.push_string(m.window.take(1)[0]),
            "T": lambda m: m.push_string(m.number("<i")),
            "\x8c": lambda m: m.push_text(m.window.take(1)[0]),
            "X": lambda m: m.push_text(m.number("<I")),
            "\x8d": lambda m: m.push_text(m.number("<Q")),
            "C": lambda m: m.push_bytes(m.window.take(1)[0]),
            "B": lambda m: m.push_bytes(m.number("<I")),
            "\x8e": lambda m: m.push_bytes(m.number("<Q")),
            "\x96": lambda m: m.push_bytes(m.number("<Q")),
            "}": lambda m: m.push({}),
            "]": lambda m: m.push([]),
            ")": lambda m: m.push(()),
            "t": lambda m: m.push(tuple(m.pop_mark())),
            "\x85": lambda m: m.tuple_of(1),
            "\x86": lambda m: m.tuple_of(2),
            "\x87": lambda m: m.tuple_of(3),
            "a": lambda m: m.append([m.pop()]),
            "e": lambda m: m.append(m.pop_mark()),
            "s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
            "u": lambda m: m.set_items(m.pop_mark()),
            "q": lambda m: m.put(m.window.take(1)[0]),
            "r": lambda m: m.put(m.number("<I")),
            "\x94": lambda m: m.put(len(m.memo)),
            "h": lambda m: m.get(m.window.take(1)[0]),
            "j": lambda m: m.get(m.number("<I")),
            "c": push_global_lines,
            "\x93": push_stack_global,
            "R": call,
            "\x81": call,
            "b": build,
            "Q": push_persistent,
        }.items()
    }
