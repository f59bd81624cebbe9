"""PyTorch's two file formats: zip archives (torch >= 1.6) and the legacy sequence of pickles and raw storages."""

from __future__ import annotations

from typing import Any

from paddle_cait.weights.byte_source import ByteSource, Window
from paddle_cait.weights.pickle_machine import run_pickle
from paddle_cait.weights.pickle_tree import plain_tree
from paddle_cait.weights.pickle_values import Refusal
from paddle_cait.weights.tensors import Checkpoint, quote
from paddle_cait.weights.torch_objects import Storage, storage_of, torch_globals
from paddle_cait.weights.zip_members import STORED, Member, ZipMembers

MAX_PICKLE = 64 << 20

MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."  # the end of the file's first pickle
_PROTOCOL = 1001
_HEAD = 1_000  # opcodes for each of the three small pickles at its beginning


def torch_root(archive: ZipMembers) -> str | None:
    """The top folder of a torch archive, or None if the archive is something else."""
    roots = [
        name[: -len("/data.pkl")] for name in archive.members if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    return roots[0] if len(roots) == 1 else None


def open_torch_zip(source: ByteSource, archive: ZipMembers, root: str) -> Checkpoint:
    """The checkpoint in a zip ``.pth``. Raises :class:`WeightsError`."""
    if f"{root}/constants.pkl" in archive.members:
        raise source.error("is a TorchScript program, which is code; in PyTorch, save its state_dict() with torch.save")
    big_endian = _big_endian(source, archive, root)
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        key, storage = storage_of(identity, 5)
        if key in storages:
            return _same(storages[key], storage, key)
        member = archive.members.get(f"{root}/data/{key}")
        if member is None:
            raise Refusal(f"the storage {quote(key)} is not in the archive")
        if member.size != storage.nbytes:
            raise Refusal(f"the storage {quote(key)} has {member.size} bytes, expected {storage.nbytes}")
        storage.big_endian = big_endian
        storage.read_into = _member_reader(archive, _stored(source, member))
        storages[key] = storage
        return storage

    member = _stored(source, archive.members[f"{root}/data.pkl"])
    if member.size > MAX_PICKLE:
        raise source.error(f"its data.pkl has {member.size} bytes, expected at most {MAX_PICKLE}")
    archive.check(member)
    start = archive.data_offset(member)
    window = Window(source, start, start + member.size, "data.pkl")
    tree = plain_tree(run_pickle(window, torch_globals(source), persistent), source.error)
    if window.position != window.end:
        raise window.error(f"{window.end - window.position} bytes follow the end of the pickle, expected none")
    return Checkpoint(source.path, "pth-zip", tree, on_close=source.close)


def _stored(source: ByteSource, member: Member) -> Member:
    if member.method != STORED:
        raise source.error(
            f"zip member {quote(member.name)}: is compressed, torch never does that; get the original file"
        )
    return member


def _big_endian(source: ByteSource, archive: ZipMembers, root: str) -> bool:
    member = archive.members.get(f"{root}/byteorder")
    order = b"little" if member is None else archive.read(member, 16)
    if order not in (b"little", b"big"):
        raise source.error(f"its byte order is {quote(order)}, expected little or big")
    return order == b"big"


def _member_reader(archive: ZipMembers, member: Member) -> Any:
    def read_into(start: int, buffer: memoryview) -> None:
        if start == 0 and len(buffer) == member.size:
            archive.read_into(member, 0, buffer)
        else:
            archive.check(member)
            archive.source.read_into(archive.data_offset(member) + start, buffer)

    return read_into


def _same(known: Storage, again: Storage, key: str) -> Storage:
    if (known.dtype, known.numel) != (again.dtype, again.numel):
        raise Refusal(f"the storage {quote(key)} is described in two ways")
    return known


def open_torch_legacy(source: ByteSource) -> Checkpoint:
    """The checkpoint in a ``.pth`` of torch before 1.6: pickles, then storages. May raise :class:`WeightsError`."""
    window = Window(source, 0, source.size)
    if run_pickle(window, {}, limit=_HEAD) != MAGIC or run_pickle(window, {}, limit=_HEAD) != _PROTOCOL:
        raise source.error("is no PyTorch file of protocol 1001")
    system = run_pickle(window, {}, limit=_HEAD)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise source.error("was written on a big-endian machine; load it in PyTorch and save it again")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        key, storage = storage_of(identity, 6)
        if identity[5] is not None:
            raise Refusal("a view of a storage as torch 0.3 wrote them; load it in PyTorch and save it again")
        return _same(storages[key], storage, key) if key in storages else storages.setdefault(key, storage)

    root = run_pickle(window, torch_globals(source), persistent)
    keys = run_pickle(window, {})
    if not isinstance(keys, list) or any(type(key) is not str for key in keys) or sorted(keys) != sorted(storages):
        raise source.error("its list of storages does not match its tensors; the file is damaged")
    for key in keys:
        _place(window, storages[key], key)
    if window.position != source.size:
        raise source.error(f"{source.size - window.position} bytes follow the last storage; the file is damaged")
    return Checkpoint(source.path, "pth-legacy", plain_tree(root, source.error), on_close=source.close)


def _place(window: Window, storage: Storage, key: str) -> None:
    """Note where a storage lies and step over it: its element count as int64, then its bytes."""
    count = int.from_bytes(window.take(8), "little", signed=True)
    if count != storage.numel:
        raise window.error(f"the storage {quote(key)} has {count} elements, expected {storage.numel}")
    start = window.skip(storage.nbytes)
    storage.read_into = lambda offset, buffer: window.source.read_into(start + offset, buffer)
