"""Opening a checkpoint by its content. A file's name says nothing here: ``.pth`` files hold four different formats."""

from __future__ import annotations

import stat
from pathlib import Path

from paddle_cait.errors import WeightsError
from paddle_cait.files import PathLike
from paddle_cait.weights.byte_source import ByteSource
from paddle_cait.weights.hdf5_files import KERAS_MEMBER, SIGNATURE, open_hdf5, open_keras
from paddle_cait.weights.npz_files import is_npz, open_npz
from paddle_cait.weights.onnx_files import is_onnx, open_onnx
from paddle_cait.weights.pdparams_files import open_pdparams
from paddle_cait.weights.safetensors_files import MAX_HEADER, open_safetensors
from paddle_cait.weights.tensors import Checkpoint, quote
from paddle_cait.weights.torch_files import LEGACY_START, open_torch_legacy, open_torch_zip, torch_root
from paddle_cait.weights.zip_members import ZipMembers

EXPECTED = "expected a PyTorch .pth, .npz, .safetensors, .pdparams, .onnx or Keras .h5 file"

# How other files begin, and what to tell who has one.
_OTHERS = (
    (b"\x93NUMPY", "is a single numpy array (.npy); save named arrays with numpy.savez"),
    (b"\x1f\x8b", "is gzip-compressed; unpack it first (gunzip, tar xzf)"),
    (b"BZh", "is bzip2-compressed; unpack it first"),
    (b"\xfd7zXZ", "is xz-compressed; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed; unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"Rar!", "is a RAR archive; unpack it first"),
    (b"GGUF", "is a GGUF file, which holds quantised weights"),
    (b"version https://git-lfs", "is a git-lfs pointer, not the file itself; run `git lfs pull`, or download the file"),
)
_LEGACY_TORCH_TAR = (
    "is a tar archive; unpack it first (if PyTorch before 0.1.10 wrote it: load and save it in PyTorch 0.4)"
)
_HTML = "is a web page: a download page was saved instead of the file; download the file itself"


def open_checkpoint(path: PathLike) -> Checkpoint:
    """Open a checkpoint of any supported format; its tensors are read when asked for.

    ``path``: a PyTorch .pth, .npz, .safetensors, .pdparams, .onnx or Keras .h5 or .keras file, whatever its name says.
    Use it as a context manager, or close it. Raises :class:`WeightsError` with one line that says what is wrong with
    the file; nothing in it is ever executed.
    """
    _check_is_file(Path(path))
    source = ByteSource(path)
    try:
        return _open(source)
    except BaseException:
        source.close()
        raise


def _check_is_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise WeightsError(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    if stat.S_ISDIR(mode):
        raise WeightsError(f"{path}: is a folder, {EXPECTED}")
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise WeightsError(f"{path}: is no regular file, {EXPECTED}")


def _open(source: ByteSource) -> Checkpoint:
    if source.size == 0:
        raise source.error("is empty (0 bytes); download it again")
    head = source.read(0, min(source.size, 512))
    if _is_safetensors(source, head):
        return open_safetensors(source)
    if head.startswith(SIGNATURE):
        return open_hdf5(source)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _open_zip(source)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        # Python alone cannot tell them apart: both are pickles. torch's first one is a magic number.
        return open_torch_legacy(source) if LEGACY_START in head[:32] else open_pdparams(source)
    if is_onnx(source):
        return open_onnx(source)
    raise source.error(_what_else(head))


def _is_safetensors(source: ByteSource, head: bytes) -> bool:
    """The header begins with a brace. Its length may look like the start of another format, so this is asked first."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER


def _open_zip(source: ByteSource) -> Checkpoint:
    archive = ZipMembers(source)
    root = torch_root(archive)
    if root is not None:
        return open_torch_zip(source, archive, root)
    if KERAS_MEMBER in archive.members:
        return open_keras(source, archive)
    if is_npz(archive):
        return open_npz(source, archive)
    names = ", ".join(quote(name, 40) for name in list(archive.members)[:3]) or "nothing"
    raise source.error(f"is a zip archive of something else ({names}), {EXPECTED}")


def _what_else(head: bytes) -> str:
    for start, message in _OTHERS:
        if head.startswith(start):
            return message
    if head[257:262] == b"ustar":
        return _LEGACY_TORCH_TAR
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        return _HTML
    if not head.strip(b"\0"):
        return "begins with zeros: the download was not finished; download it again"
    if head[:16] == bytes(16):  # version, level, version: all 0
        return "looks like the parameters of a Paddle inference model (.pdiparams); give the .pdparams it was made from"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return f"is a text file that begins with {quote(head[:40].decode('latin-1'))}, {EXPECTED}"
    return f"is in an unknown format, {EXPECTED}"
