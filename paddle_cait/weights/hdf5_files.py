"""Keras's files: HDF5 weights (``.h5``), alone or inside the zip of a ``.keras`` file. Read with h5py, an extra.

The library parses the container; what it must not do is refused first: datasets that live in other files, that are
assembled from others, or that pass through filters (which HDF5 may load as plugins).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from paddle_cait.errors import WeightsError
from paddle_cait.weights.byte_source import ByteSource
from paddle_cait.weights.numpy_nodes import dtype_name
from paddle_cait.weights.pickle_values import Refusal
from paddle_cait.weights.tensors import MAX_NAME, MAX_TENSORS, Checkpoint, TensorRef, is_shape, nbytes_of, quote
from paddle_cait.weights.zip_members import Member, ZipMembers

SIGNATURE = b"\x89HDF\r\n\x1a\n"
KERAS_MEMBER = "model.weights.h5"


def open_hdf5(source: ByteSource) -> Checkpoint:
    """The checkpoint in an .h5 file: a flat tree of datasets by their path. Raises :class:`WeightsError`."""
    return _open(source, str(source.path))


def open_keras(source: ByteSource, archive: ZipMembers) -> Checkpoint:
    """The checkpoint in a .keras file; its configuration is not looked at. Raises :class:`WeightsError`."""
    member = archive.members[KERAS_MEMBER]
    if member.method != 0:
        raise source.error(f"{KERAS_MEMBER} in it is compressed: unpack it and give that file")
    return _open(source, _MemberFile(archive, member))


def _open(source: ByteSource, file: Any) -> Checkpoint:
    try:
        import h5py
    except ImportError as error:
        raise source.error("is a Keras file (HDF5), which needs h5py: pip install h5py") from error
    try:
        opened = h5py.File(file, "r")
    except Exception as error:  # whatever the library makes of damaged bytes
        raise source.error(f"is no readable HDF5 file ({_reason(error)}); download it again") from error

    def close() -> None:
        opened.close()
        source.close()

    try:
        return Checkpoint(source.path, "hdf5", _tree(source, opened, h5py), on_close=close)
    except BaseException:
        opened.close()
        raise


def _tree(source: ByteSource, opened: Any, h5py: Any) -> dict[Any, Any]:
    tree: dict[Any, Any] = {}

    def visit(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            if len(tree) == MAX_TENSORS or len(name) > MAX_NAME:
                raise source.error("holds more or longer names than any model")
            tree[name] = _tensor(source, name, item)
        return None

    try:
        opened.visititems(visit)  # follows no links out of the file
    except WeightsError:
        raise
    except Exception as error:
        raise source.error(f"is damaged ({_reason(error)}); download it again") from error
    return tree


def _tensor(source: ByteSource, name: str, dataset: Any) -> TensorRef:
    where = f"dataset {quote(name)}"
    plan = dataset.id.get_create_plist()
    if dataset.external is not None or dataset.is_virtual or plan.get_nfilters():
        raise source.error(f"{where}: is compressed or lies elsewhere, expected numbers in the file itself")
    try:
        dtype = dtype_name(dataset.dtype.str.lstrip("<|="))
    except Refusal as refusal:
        raise source.error(f"{where}: {refusal}") from refusal
    shape = dataset.shape
    if not is_shape(shape) or nbytes_of(shape, dtype) > max(dataset.id.get_storage_size(), 0):
        raise source.error(f"{where}: less data than its shape says; the file is damaged")

    def read() -> np.ndarray:
        try:
            return np.ascontiguousarray(dataset[()])
        except Exception as error:
            raise source.error(f"{where}: cannot be read ({_reason(error)})") from error

    return TensorRef(name, tuple(shape), dtype, read)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class _MemberFile(io.RawIOBase):
    """A stored member of a zip as a file that h5py can seek in."""

    def __init__(self, archive: ZipMembers, member: Member) -> None:
        self.source, self.start, self.size, self.at = archive.source, archive.data_offset(member), member.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self.at))
        if count:
            self.source.read_into(self.start + self.at, view[:count])
        self.at += count
        return count
