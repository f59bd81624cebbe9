"""Pickles that try to run something, to eat memory or time, or to break the interpreter. Opcodes by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable

PROTO = b"\x80\x02"


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def name(module: str, attribute: str) -> bytes:
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def stack_name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def call(target: bytes, *arguments: bytes) -> bytes:
    return target + b"(" + b"".join(arguments) + b"tR"


def entry(value: bytes) -> bytes:
    """A whole pickle of ``{"a": value}``."""
    return PROTO + b"}" + text("a") + value + b"s."


def keyed(key: bytes) -> bytes:
    return PROTO + b"}" + key + b"Ns."


def executing(canary: str) -> dict[str, bytes]:
    """Pickles that create the file ``canary``, or would with the right library at hand."""
    touch, code = text(f"touch {canary}"), text(f"open({canary!r}, 'w')")
    targets = {
        "os.system": (name("os", "system"), touch),
        "posix.system": (name("posix", "system"), touch),
        "nt.system": (name("nt", "system"), touch),
        "subprocess.getoutput": (name("subprocess", "getoutput"), touch),
        "subprocess.Popen": (name("subprocess", "Popen"), b"]" + text("touch") + b"a" + text(canary) + b"a"),
        "os.popen": (name("os", "popen"), touch),
        "builtins.eval": (name("builtins", "eval"), code),
        "builtins.exec": (name("builtins", "exec"), code),
        "__builtin__.eval": (name("__builtin__", "eval"), code),
        "builtins.compile": (name("builtins", "compile"), code, text("x"), text("exec")),
        "builtins.open": (name("builtins", "open"), text(canary), text("w")),
        "io.open": (name("io", "open"), text(canary), text("w")),
        "pathlib touch": (name("pathlib", "Path.touch"), text(canary)),
        "builtins.__import__": (name("builtins", "__import__"), text("antigravity")),
        "importlib": (name("importlib", "import_module"), text("antigravity")),
        "runpy": (name("runpy", "_run_code"), code, b"}"),
        "timeit": (name("timeit", "timeit"), code),
        "pdb": (name("pdb", "run"), code),
        "code": (name("code", "InteractiveInterpreter"),),
        "cProfile": (name("cProfile", "run"), code),
        "doctest": (name("doctest", "debug_script"), code),
        "numpy runstring": (name("numpy.testing._private.utils", "runstring"), code, b"}"),
        "numpy.load": (name("numpy", "load"), text(canary)),
        "numpy fromfile": (name("numpy", "fromfile"), text("/etc/passwd")),
        "numpy memmap": (name("numpy", "memmap"), text(canary), text("u1"), text("w+")),
        "pickle.loads": (name("pickle", "loads"), text("cos\nsystem\n(X")),
        "marshal": (name("marshal", "loads"), text("x")),
        "FunctionType": (name("types", "FunctionType"), b"N", b"}"),
        "copyreg reconstructor": (name("copyreg", "_reconstructor"), name("argparse", "Namespace"), b"N", b"N"),
        "copyreg newobj": (name("copyreg", "__newobj__"), name("argparse", "Namespace")),
        "getattr": (name("builtins", "getattr"), name("collections", "OrderedDict"), text("__init__")),
        "apply": (name("__builtin__", "apply"), name("collections", "OrderedDict"), b")"),
        "map": (name("builtins", "map"), name("os", "system"), b"]" + touch + b"a"),
        "attrgetter": (name("operator", "attrgetter"), text("system")),
        "methodcaller": (name("operator", "methodcaller"), text("system"), touch),
        "partial": (name("functools", "partial"), name("os", "system"), touch),
        "reduce": (name("functools", "reduce"), name("os", "system"), b"]" + touch + b"a"),
        "webbrowser": (name("webbrowser", "open"), text("file://" + canary)),
        "urlopen": (name("urllib.request", "urlopen"), text("http://127.0.0.1:9")),
        "socket": (name("socket", "create_connection"), b"(" + text("127.0.0.1") + b"K\tt"),
        "shutil": (name("shutil", "copy"), text("/etc/hostname"), text(canary)),
        "multiprocessing": (name("multiprocessing.util", "spawnv_passfds"), b"C\x00", b"]", b"]"),
        "pip": (name("pip", "main"), b"]"),
        "exit": (name("builtins", "exit"),),
        "os._exit": (name("os", "_exit"), b"K\x00"),
        "signal": (name("os", "kill"), b"K\x00", b"K\x09"),
        "torch.load": (name("torch", "load"), text(canary)),
        "torch load_from_bytes": (name("torch.storage", "_load_from_bytes"), text(canary)),
        "torch.jit": (name("torch.jit", "load"), text(canary)),
        "torch rebuild v3": (name("torch._utils", "_rebuild_tensor_v3"), b"N"),
        "torch ops": (name("torch.ops", "load_library"), text(canary)),
        "paddle.load": (name("paddle", "load"), text(canary)),
        "yaml": (name("yaml", "unsafe_load"), code),
        "dill": (name("dill._dill", "_create_function"), b"N"),
        "cloudpickle": (name("cloudpickle.cloudpickle", "_builtin_type"), text("CodeType")),
        "codecs decode": (name("_codecs", "decode"), text("x"), text("rot13")),
        "encode rot13": (name("_codecs", "encode"), text("x"), text("rot13")),
        "dotted name": (name("collections", "OrderedDict.fromkeys"), b"]"),
        "module of a known module": (name("argparse", "_os.system"), touch),
        "namespace init": (name("argparse", "Namespace.__init__"), b"N"),
        "bytes with arguments": (name("builtins", "bytes"), b"\x8a\x04\x00\x00\x00\x40"),
        "bytearray": (name("builtins", "bytearray"), b"\x8a\x05\x00\x00\x00\x00\x40"),
        "range list": (name("builtins", "list"), call(name("builtins", "range"), b"J\xff\xff\xff\x7f")),
    }
    made = {f"call {key}": entry(call(*parts)) for key, parts in targets.items()}
    made.update(
        {f"mention {key}": entry(parts[0]) for key, parts in targets.items() if parts[0] != name("_codecs", "encode")}
    )
    del made["mention bytes with arguments"]
    system = name("os", "system")
    made.update(
        {
            "first thing in the file": PROTO + call(system, touch) + b".",
            "stack global": entry(call(stack_name("os", "system"), touch)),
            "stack global through memo": entry(
                text("system") + b"q\x00" + text("os") + b"q\x01]\x86(h\x01h\x00t0h\x01h\x00\x93" + touch + b"\x85R"
            ),
            "stack global of memo": entry(
                b"(" + text("os") + b"\x94" + text("system") + b"\x94th\x00h\x01\x93" + touch + b"\x85R"
            ),
            "stack global of numbers": entry(b"K\x01K\x02\x93"),
            "newobj": entry(name("subprocess", "Popen") + touch + b"\x85\x81"),
            "newobj_ex": entry(name("subprocess", "Popen") + touch + b"\x85}\x92"),
            "inst": entry(b"(" + touch + b"ios\nsystem\n"),
            "obj": entry(b"(" + system + touch + b"o"),
            "inst of a known name": entry(b"(iargparse\nNamespace\n"),
            "obj of a known name": entry(b"(" + name("argparse", "Namespace") + b"o"),
            "ext1": entry(b"\x82\x01"),
            "ext2": entry(b"\x83\x01\x00"),
            "ext4": entry(b"\x84\x01\x00\x00\x00"),
            "persid": entry(b"Pos.system\n"),
            "build setstate": entry(
                name("argparse", "Namespace") + b")\x81}" + text("__setstate__") + system + b"sb" + touch + b"b"
            ),
            "build class": entry(
                name("argparse", "Namespace") + b")\x81}" + text("__class__") + name("os", "_wrap_close") + b"sb"
            ),
            "build a global": entry(name("collections", "OrderedDict") + b"}" + text("x") + b"Nsb"),
            "build a list": entry(b"]}b"),
            "build a dict with a tuple": entry(b"}N}\x86b"),
            "call a text": entry(call(text("os.system"), touch)),
            "call a dict": entry(call(b"}", touch)),
            "call with a list": entry(name("collections", "OrderedDict") + b"]R"),
            "call a result": entry(call(call(name("collections", "OrderedDict")), touch)),
            "next buffer": entry(b"\x97"),
            "readonly buffer": entry(b"C\x01a\x98"),
            "newline in a name": entry(name("os", "system\r") + touch + b"\x85R"),
            "terminal codes in a name": entry(stack_name("\x1b[2J\nTraceback", "x" * 300)),
        }
    )
    return made


def exhausting() -> dict[str, Callable[[], bytes]]:
    """Pickles whose cost would outgrow their size."""
    doubled = b"h\x00" * 2  # twice what the memo holds at 0

    def laughs(start: bytes, step: bytes, times: int = 100) -> bytes:
        return start + b"q\x00" + step * times

    tuples = laughs(b")", doubled + b"\x86q\x00" + b"")
    lists = laughs(b"]", b"](" + doubled + b"eq\x00")
    dicts = laughs(b"}", b"}(" + text("a") + b"h\x00" + text("b") + b"h\x00uq\x00")
    wide = laughs(b"](" + b"N" * 10_000 + b"e", b"](" + b"h\x00" * 100 + b"eq\x00", 3)
    return {
        "exponential tuples": lambda: entry(b"(" + tuples + b"t"),
        "exponential tuple as key": lambda: keyed(b"(" + tuples + b"t"),
        "exponential lists": lambda: entry(b"(" + lists + b"t"),
        "exponential dicts": lambda: entry(b"(" + dicts + b"t"),
        "wide and shared": lambda: entry(b"(" + wide + b"t"),
        "exponential names": lambda: (
            PROTO + b"}q\x00" + b"".join(b"}" + text("k" * 4000) + b"h\x00sq\x00" for _ in range(60)) + b"."
        ),
        "list in itself": lambda: entry(b"]q\x00h\x00a"),
        "dict in itself": lambda: PROTO + b"}q\x00" + text("a") + b"h\x00s.",
        "deep tuples": lambda: entry(b")" + b"\x85" * 1_000_000),
        "deep lists": lambda: entry(b"]" * 500_000 + b"a" * 499_999),
        "deep dicts": lambda: entry(b"}" + (text("a") + b"}") * 300_000 + b"s" * 300_000),
        "deep marks": lambda: entry(b"(" * 1_000_000),
        "ten million opcodes": lambda: entry(b"N" * 10_000_000),
        "two million dicts in the memo": lambda: entry(b"(" + b"}\x94" * 2_000_000),
        "two million empty lists": lambda: entry(b"](" + b"]" * 1_990_000 + b"e"),
        "million inert objects": lambda: entry(b"](" + (name("argparse", "Namespace") + b")\x81") * 600_000 + b"e"),
        "million floats": lambda: entry(b"](" + b"G?\xf0\0\0\0\0\0\0" * 1_900_000 + b"e"),
        "million numbers": lambda: entry(b"](" + (b"\x8a\x40" + b"\x7f" * 64) * 1_000_000 + b"e"),
        "texts of 80 MB": lambda: entry(b"](" + text("x" * 4000) * 20_000 + b"e"),
        "texts one by one": lambda: entry(b"](" + b"".join(text(f"text {i}") for i in range(700_000)) + b"e"),
        "colliding keys": lambda: entry(
            b"}(" + b"".join(_long(i * ((1 << 61) - 1)) + b"N" for i in range(100_000)) + b"u"
        ),
        "chained keys": lambda: entry(b"}(" + _chain(200_000) + b"u"),
        "memo far out": lambda: entry(b"Nr\xff\xff\xff\xff"),
        "memo chained": lambda: entry(b"N" + b"".join(b"r" + struct.pack("<I", i << 12) for i in range(300_000))),
        "integer of 255 bytes": lambda: entry(b"\x8a\xff" + b"\x7f" * 255),
        "integer of 2 GB": lambda: entry(b"\x8b\xff\xff\xff\x7f"),
        "integer of 300 digits": lambda: entry(b"I" + b"9" * 300 + b"\n"),
        "integer of a million digits": lambda: entry(b"I" + b"9" * 1_000_000 + b"\n"),
        "line without end": lambda: entry(b"c" + b"a" * 1_000_000),
        "bytes of 9 EB": lambda: entry(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"),
        "bytearray of 9 EB": lambda: entry(b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f"),
        "text of 9 EB": lambda: entry(b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"),
        "text of 4 GB": lambda: entry(b"X\xff\xff\xff\xff"),
        "bytes of 4 GB": lambda: entry(b"B\xff\xff\xff\xff"),
        "string of -1 bytes": lambda: entry(b"T\xff\xff\xff\xff"),
        "frame of 9 EB": lambda: entry(b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN"),
    }


def _long(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _chain(count: int) -> bytes:
    """Integers in the order in which a dict of 2**19 slots probes: each look-up walks past all earlier ones."""
    slot, keys = 0, []
    for _ in range(count):
        keys.append(b"J" + struct.pack("<i", slot) + b"N")
        slot = (5 * slot + 1) % (1 << 19)
    return b"".join(keys)


MALFORMED = {
    "no opcodes": b"",
    "protocol alone": PROTO,
    "stop alone": PROTO + b".",
    "protocol 0": b"\x80\x00}.",
    "protocol 6": b"\x80\x06}.",
    "protocol 255": b"\x80\xff}.",
    "no stop": PROTO + b"}",
    "values left over": PROTO + b"NN}.",
    "mark left over": PROTO + b"(}.",
    "no opcode": entry(b"\xff"),
    "zero bytes": entry(b"\0" * 100),
    "tuple of nothing": PROTO + b"\x86.",
    "tuple without mark": PROTO + b"t.",
    "append to nothing": PROTO + b"a.",
    "append to a dict": PROTO + b"}Na.",
    "append below a mark": entry(b"](Nata"),
    "appends to a text": entry(text("a") + b"(Ne"),
    "set in a list": entry(b"]NNs"),
    "odd items": entry(b"}(Nu"),
    "call nothing": PROTO + b"R.",
    "build nothing": PROTO + b"b.",
    "store nothing": PROTO + b"q\x00.",
    "get what was not stored": entry(b"h\x07"),
    "memoize nothing": PROTO + b"\x94.",
    "key None": keyed(b"N"),
    "key tuple": keyed(b")"),
    "key list": keyed(b"]"),
    "key float": keyed(b"G" + bytes(8)),
    "key bool": keyed(b"\x88"),
    "key bytes": keyed(b"C\x01a"),
    "key global": keyed(name("collections", "OrderedDict")),
    "key of 5000 letters": keyed(text("k" * 5000)),
    "key of 64 bytes": keyed(b"\x8a\x40" + b"\x7f" * 64),
    "key twice": PROTO + b"}" + (text("a") + b"Ns") * 2 + b".",
    "no UTF-8": entry(b"X\x02\x00\x00\x00\xc3\x28"),
    "lone surrogate": entry(b"X\x03\x00\x00\x00\xed\xa0\x80"),
    "integer of letters": entry(b"Ieval\n"),
    "integer of signs": entry(b"I---7\n"),
    "integer of one sign": entry(b"I-\n"),
    "integer of nothing": entry(b"I\n"),
    "integer of spaces": entry(b"I 7 \n"),
    "integer with underscore": entry(b"I1_0\n"),
    "key of two lines": keyed(text("a\nb")),
    "key of terminal codes": keyed(text("\x1b[2J")),
    "global without name": entry(b"cos\n"),
    "dup": entry(b"N2"),
    "pop": entry(b"NN0"),
    "pop mark": entry(b"(N1"),
    "list of marks": entry(b"(Nl"),
    "dict of marks": entry(b"(NNd"),
    "empty set": entry(b"\x8f"),
    "frozenset": entry(b"(N\x91"),
    "text int": entry(b"L5L\n"),
    "text float": entry(b"F1.5\n"),
    "text string": entry(b"S'a'\n"),
    "text put": entry(b"Np0\n"),
    "text get": entry(b"Np0\ng0\n"),
    "a list": PROTO + b"].",
    "a text": PROTO + text("a") + b".",
    "None": PROTO + b"N.",
    "ordered dict of a text": entry(call(name("collections", "OrderedDict"), text("ab"))),
    "ordered dict of triples": entry(call(name("collections", "OrderedDict"), b"](NNNt" + b"a")),
    "ordered dict of lists": entry(call(name("collections", "OrderedDict"), b"](](NNe" + b"e")),
    "ordered dict twice": entry(
        call(name("collections", "OrderedDict"), b"](" + (b"](" + text("a") + b"Ne") * 2 + b"e")
    ),
    "dtype without code": entry(name("numpy", "dtype") + b")R"),
    "dtype of a dtype": entry(call(name("numpy", "dtype"), call(name("numpy", "dtype"), text("f4")))),
    "dtype built twice": entry(call(name("numpy", "dtype"), text("f4")) + (b"(K\x03" + text("<") + b"tb") * 2),
    "dtype built with a text": entry(call(name("numpy", "dtype"), text("f4")) + text("<<<") + b"b"),
    "scalar of an object": entry(
        call(name("numpy.core.multiarray", "scalar"), call(name("numpy", "dtype"), text("O8")), text("x"))
    ),
    "scalar too long": entry(
        call(name("numpy.core.multiarray", "scalar"), call(name("numpy", "dtype"), text("f8")), text("x" * 5000))
    ),
    "scalar a little too long": entry(
        call(name("numpy.core.multiarray", "scalar"), call(name("numpy", "dtype"), text("f8")), text("x" * 9))
    ),
    "scalar of too many bytes": entry(
        call(name("numpy.core.multiarray", "scalar"), call(name("numpy", "dtype"), text("f8")), b"C\x09" + b"x" * 9)
    ),
    "scalar beyond latin-1": entry(
        call(name("numpy.core.multiarray", "scalar"), call(name("numpy", "dtype"), text("f8")), text("中" * 8))
    ),
    "scalar of nothing": entry(call(name("numpy._core.multiarray", "scalar"))),
    "encode a number": entry(call(name("_codecs", "encode"), b"K\x05", text("latin1"))),
}
