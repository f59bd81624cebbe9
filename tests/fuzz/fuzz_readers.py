"""Fuzz one reader: ``python tests/fuzz/fuzz_readers.py READER --seconds N``.

READER: pth-zip, pth-legacy, npz, safetensors, pdparams, onnx. Each input is a good file after a few mutations; it is
opened and every tensor is read. Anything but a WeightsError (or success) is a crash: its input is saved, the exit
status is 1. With ``--atheris`` (pip install atheris) coverage guides the mutations; otherwise a mutator that knows the
formats does.
"""

from __future__ import annotations

import argparse
import copy
import io
import pickle
import random
import runpy
import struct
import sys
import time
import traceback
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.errors import WeightsError

MAX_SECONDS = 20
HERE = Path(__file__).resolve().parent
make = runpy.run_path(str(HERE.parent / "weights" / "make_files.py"))
make_onnx = runpy.run_path(str(HERE.parent / "weights" / "hostile_onnx.py"))

NUMBERS = [0, 1, 2, 255, 256, 32767, *(2**bits + step for bits in (7, 16, 31, 32, 62, 63, 64) for step in (-1, 0))]
PICKLE_WORDS = [bytes([code]) for code in range(256)] + [
    b"cos\nsystem\n", b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n",
    b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cargparse\nNamespace\n", b"(tR", b")R", b"\x85R",
    b"}b", b"X\x01\x00\x00\x00a", b"\x8a\x08" + b"\xff" * 8, b"J\xff\xff\xff\xff", b"h\x00", b"q\x00",
    b"f4", b"u2", b"O8", b"I-7\n", b"I00\n", b"U\x01a", b"T\x01\x00\x00\x00a", b"G?\xf0" + bytes(6),
]  # fmt: skip
JSON_WORDS = [*(bytes([code]) for code in b'{}[],:"'), b"-1", b"null", b"true", b"NaN", b"1e9", b"18446744073709551616"]
NPY_WORDS = [b"'|O'", b"'<f8'", b"True", b"(", b")", b",", b"-1", b"'shape'", b"9223372036854775807", b"'>i2'"]
ONNX_WORDS = [
    b"Identity", b"Constant", b"MatMul", b"Gemm", b"Add", b"Concat", b"Resize", b"Transpose", b"Reshape", b"a.bias",
    b"/a/a.0/MatMul", b"/a/Add", b"/", b".", b"..", b"x", b"1", b"onnx::MatMul_1", b"val_1", b"location", b"offset",
    b"length", b"value", b"transB", b"fuzz-onnx", b"com.microsoft", b"\x80", b"\xff" * 9 + b"\1", b"\n\0", b"*\0",
]  # fmt: skip


def scramble(draw: random.Random, data: bytes, words: list[bytes]) -> bytes:
    """``data`` after one to six small changes."""
    raw = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        at = draw.randrange(len(raw) + 1)
        kind = draw.randrange(8)
        if kind == 0 and at < len(raw):
            raw[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and at < len(raw):
            raw[at] = draw.randrange(256)
        elif kind == 2:
            raw[at:at] = draw.choice(words)
        elif kind == 3:
            word = draw.choice(words)
            raw[at : at + len(word)] = word
        elif kind == 4:
            del raw[at : at + draw.choice((1, 2, 4, 8, 30, 200))]
        elif kind == 5:
            layout = draw.choice(("<B", "<H", "<L", "<Q"))
            value = draw.choice(NUMBERS) + draw.choice((0, 0, 1, -1))
            raw[at : at + struct.calcsize(layout)] = struct.pack(layout, value % (1 << 8 * struct.calcsize(layout)))
        elif kind == 6:
            other = draw.randrange(len(raw) + 1)
            raw[at:at] = raw[other : other + draw.choice((1, 4, 16, 64))]
        elif kind == 7 and draw.random() < 0.3:
            del raw[at:]
    return bytes(raw)


def seeds(reader: str) -> list[Any]:
    """Good inputs: for zip archives the members, so that a mutation inside one can come with a matching CRC."""
    tree, small = make["training_tree"](), {"a": make["Tensor"](np.ones((2, 3), np.float32))}
    arrays = {**make["arrays"](), "f": np.asfortranarray(np.ones((2, 3))), "k": np.ones((2, 3, 4)).transpose(1, 0, 2)}
    if reader == "pth-zip":
        made = [make["pth_zip_members"](value, protocol=protocol) for value in (tree, small) for protocol in (2, 4)]
        return [*made, {"archive/data.pkl": make["python2_pickle"]()}]
    if reader == "npz":
        archive = zipfile.ZipFile(io.BytesIO(make["npz"](arrays)))
        return [{info.filename: archive.read(info) for info in archive.infolist()}]
    if reader == "pth-legacy":
        return [
            make["pth_legacy"](tree),
            make["pth_legacy"](small),
            make["pth_legacy_of_pickle"](make["python2_pickle"]()),
        ]
    if reader == "pdparams":
        nested = {"model": arrays, "StructuredToParameterName@@": {"a": "b"}, "best": np.float32(1)}
        made = [pickle.dumps(value, protocol) for value in (arrays, nested) for protocol in (2, 3, 4, 5)]
        return [*made, make["python2_pickle"]()]
    if reader == "onnx":
        side = [make_onnx["external"](name, (2, 2), location="fuzz-onnx", offset=9) for name in ("1", "a.b")]
        return [
            make_onnx["good"](),
            make_onnx["tree"]([make_onnx["node"]("MatMul", ["x", "1"], name="/a/MatMul")], side),
        ]
    header = {
        "__metadata__": {"format": "pt", "é": "\n"},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [8, 12]},
        "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "c": {"dtype": "BOOL", "shape": [], "data_offsets": [12, 13]},
    }
    return [make["safetensors"](header, bytes(13))]


def mutated(draw: random.Random, reader: str, seed: Any) -> bytes:
    """One input. Most mutations keep the outer shell (CRCs, header length) right, to get past it."""
    if reader == "safetensors":
        length = struct.unpack("<Q", seed[:8])[0]
        if draw.random() < 0.8:
            text = scramble(draw, seed[8 : 8 + length], JSON_WORDS)
            return struct.pack("<Q", len(text)) + text + seed[8 + length :]
        return scramble(draw, seed, JSON_WORDS)
    if reader == "onnx":
        message = _mutated_message(draw, seed)
        data: bytes = make_onnx["encode"](message)
        return data if draw.random() < 0.8 else scramble(draw, data, ONNX_WORDS)
    if isinstance(seed, dict):
        members = dict(seed)
        words = PICKLE_WORDS if reader == "pth-zip" else NPY_WORDS
        if draw.random() < 0.8:
            name = "archive/data.pkl" if reader == "pth-zip" and draw.random() < 0.9 else draw.choice(list(members))
            members[name] = scramble(draw, members[name], words)
        method = zipfile.ZIP_DEFLATED if reader == "npz" and draw.random() < 0.5 else zipfile.ZIP_STORED
        data = make["zipped"](members, method)
        data = make["with_zip64"](data) if draw.random() < 0.3 else data
        return data if draw.random() < 0.7 else _scramble_zip(draw, data)
    return scramble(draw, seed, PICKLE_WORDS)


def _mutated_message(draw: random.Random, seed: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """A protobuf message after one to six changes of fields somewhere within; the lengths are right again after it."""
    whole = copy.deepcopy(seed)
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        message = whole
        while True:
            inner = [value for _, value in message if isinstance(value, list)]
            if not inner or draw.random() < 0.15:
                break
            message = draw.choice(inner)
        if message:
            _change_field(draw, message)
    return whole


def _change_field(draw: random.Random, message: list[tuple[int, Any]]) -> None:
    at = draw.randrange(len(message))
    number, value = message[at]
    kind = draw.randrange(6)
    if kind == 0:
        del message[at]
    elif kind == 1:
        message.insert(draw.randrange(len(message) + 1), message[at])
    elif kind == 2:
        message[at] = (draw.randrange(1, 21), value)
    elif kind == 3:
        message[at] = (number, draw.choice(NUMBERS) + draw.choice((0, 0, 1, -1)))
    elif kind == 4:
        message[at] = (number, draw.choice(ONNX_WORDS))
    elif not isinstance(value, list):
        text = value.encode() if isinstance(value, str) else value
        message[at] = (number, draw.randrange(24) if isinstance(text, int) else scramble(draw, text, ONNX_WORDS))


def _scramble_zip(draw: random.Random, data: bytes) -> bytes:
    """Half of the changes go to the directory, where the numbers are."""
    start = data.find(b"PK\x01\x02") if draw.random() < 0.5 else 0
    return data[:start] + scramble(
        draw, data[start:], [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"]
    )


def check(path: Path, data: bytes) -> bool:
    """Open the input and read all of it; True if it was accepted. Any exception but WeightsError is a crash."""
    from paddle_cait.weights.readers import open_checkpoint
    from paddle_cait.weights.tensors import DTYPES, TensorRef

    path.write_bytes(data)
    start = time.perf_counter()
    try:
        with open_checkpoint(path) as found:
            todo: list[Any] = [found.tree]
            while todo:
                value = todo.pop()
                if isinstance(value, TensorRef):
                    array = value.read()
                    assert (
                        array.shape == value.shape and array.dtype == DTYPES[value.dtype] and array.flags.c_contiguous
                    )
                elif isinstance(value, dict):
                    todo.extend(value.values())
                elif isinstance(value, (list, tuple)):
                    todo.extend(value)
                else:
                    repr(value)
        return True
    except WeightsError as error:
        message = str(error)
        assert message.startswith(f"{path}: ") and message.isprintable() and len(message) < 1000, "no clear line"
        return False
    finally:
        assert time.perf_counter() - start < MAX_SECONDS, "too slow"


def save_crash(reader: str, data: bytes) -> None:
    target = HERE / f"crash-{reader}-{zlib.crc32(data):08x}"
    target.write_bytes(data)
    traceback.print_exc()
    print(f"input saved to {target}", file=sys.stderr)


def fuzz(reader: str, seconds: float, seed: int, path: Path) -> int:
    draw = random.Random(seed)
    pool = seeds(reader)
    runs = accepted = crashes = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and crashes < 20:
        data = mutated(draw, reader, draw.choice(pool))
        runs += 1
        try:
            accepted += check(path, data)
        except Exception:
            crashes += 1
            save_crash(reader, data)
    print(f"{reader}: {runs} executions in {seconds:.0f} s, {accepted} accepted, {crashes} crashes (seed {seed})")
    return int(crashes > 0)


def fuzz_with_atheris(reader: str, seconds: float, path: Path, corpus: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["paddle_cait.weights"]):
        import paddle_cait.weights.readers  # noqa: F401
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds(reader)):
        write = {dict: make["zipped"], list: make_onnx["encode"]}.get(type(seed), bytes)
        (corpus / f"seed-{index}").write_bytes(write(seed))

    def one(data: bytes) -> None:
        try:
            check(path, data)
        except Exception:
            save_crash(reader, data)
            raise

    options = [sys.argv[0], str(corpus), f"-max_total_time={seconds:.0f}", "-max_len=20000", "-print_final_stats=1"]
    options += [f"-artifact_prefix={HERE}/crash-{reader}-", f"-timeout={MAX_SECONDS}"]
    atheris.Setup(options, one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=("pth-zip", "pth-legacy", "npz", "safetensors", "pdparams", "onnx"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--atheris", action="store_true", help="let coverage guide the mutations")
    parser.add_argument(
        "--folder", type=Path, default=Path("/tmp"), help="where the current input lies (default: /tmp)"
    )
    args = parser.parse_args()
    path = args.folder / f"fuzz-{args.reader}"
    if args.atheris:
        fuzz_with_atheris(args.reader, args.seconds, path, args.folder / f"corpus-{args.reader}")
        return 0
    return fuzz(args.reader, args.seconds, args.seed, path)


if __name__ == "__main__":
    sys.exit(main())
