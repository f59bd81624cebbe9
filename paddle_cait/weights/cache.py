"""The authors' checkpoints on this machine: a folder for each preset, and beside each file the sha256 it first had.

Few authors publish a hash. Where none is known the first download is trusted if it can be opened, its sha256 is kept in
``FILE.sha256`` (in the form of the command ``sha256sum``), and anything else under that name is refused from then on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from paddle_cait.errors import ConfigError, PaddleCaitError, PresetError, WeightsError
from paddle_cait.files import PathLike, sha256_file, write_atomic
from paddle_cait.presets import CheckpointSource, Preset
from paddle_cait.weights.addresses import (
    HUB_ENDPOINT,
    MIRROR,
    addresses,
    from_hub,
    hub_file,
    official_address,
    source_of,
)
from paddle_cait.weights.download import LIMITS, Limits, discard, fetch
from paddle_cait.weights.http_source import DownloadError, NotThereError, shown
from paddle_cait.weights.readers import open_checkpoint

log = logging.getLogger("paddle_cait")

HOME = "PADDLE_CAIT_HOME"
_NON_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial", re.I)


@dataclass(frozen=True)
class Official:
    """A checkpoint that is here. ``checked``: against what the authors ``published``, against what was ``recorded``
    when it was ``first`` here. ``address``: where it was downloaded from just now; None if it was here."""

    preset: Preset
    path: Path
    size: int
    sha256: str
    checked: str
    address: str | None


def weights_folder() -> Path:
    """``$PADDLE_CAIT_HOME/weights``; without that variable in ``~/.cache/paddle``, where Paddle keeps its own."""
    home = os.environ.get(HOME)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(home) if home else Path(cache) / "paddle" / "paddle_cait").expanduser() / "weights"


def official_path(preset: Preset, folder: PathLike | None = None) -> Path:
    """Where a preset's checkpoint lies or will lie: several presets' files have one name, so each has its folder."""
    source = source_of(preset)
    for name in (preset.full_name, source.filename):
        if name in ("", ".", "..") or re.search(r"[/\\:\0]", name):
            raise PresetError(f"{preset.full_name}: {name!r} cannot be a file's name")
    return Path(weights_folder() if folder is None else folder) / preset.full_name / source.filename


def official_weights(
    preset: Preset,
    *,
    folder: PathLike | None = None,
    mirror: str | None = None,
    hub: bool = False,
    force: bool = False,
    limits: Limits = LIMITS,
) -> Official:
    """The authors' checkpoint of ``preset``, downloaded if it is not here, and checked in either case.

    Args:
        folder: default :func:`weights_folder`.
        mirror: base address of a copy of the servers; default ``$PADDLE_CAIT_MIRROR``.
        hub: through huggingface_hub, with its login, for files that lie on Hugging Face.
        force: download it even if it is here.

    Raises :class:`DownloadError`, :class:`WeightsError` for a file that is not the one it should be.
    """
    source, path = source_of(preset), official_path(preset, folder)
    if path.is_file() and not force:
        return Official(preset, path, path.stat().st_size, *_check(path, path, source), address=None)
    found = addresses(preset, mirror)
    if hub and hub_file(source) is None:
        raise ConfigError(f"{preset.full_name}: is not on the Hugging Face hub but at {found[0]}: leave --hub out")
    with _alone(path) as part:
        if path.is_file() and not force:  # another process was quicker
            return Official(preset, path, path.stat().st_size, *_check(path, path, source), address=None)
        _tell_licence(preset)
        try:
            address = from_hub(source, part) if hub else _fetch_one(found, part, limits)
        except DownloadError as error:
            raise DownloadError(
                f"{error}. By hand: bring {shown(official_address(preset))} to {path}, or use it where it is with "
                f"--weights FILE; {MIRROR}, {HUB_ENDPOINT} and https_proxy are honoured"
            ) from error
        try:
            sha256, checked = _check(part, path, source, address)
        except WeightsError:
            discard(part)
            raise
        part.replace(path)
        discard(part)
    return Official(preset, path, path.stat().st_size, sha256, checked, address)


def _fetch_one(found: list[str], part: Path, limits: Limits) -> str:
    for address in found[:-1]:
        with contextlib.suppress(NotThereError):
            fetch(address, part, limits)
            return address
    fetch(found[-1], part, limits)
    return found[-1]


def _check(file: Path, place: Path, source: CheckpointSource, address: str | None = None) -> tuple[str, str]:
    """The sha256 of ``file``, which is or will be ``place``, and what it was compared with."""
    record = place.with_name(place.name + ".sha256")
    known, sha256 = _recorded(record), sha256_file(file)
    published = (source.sha256_prefix or "").lower()
    remove = "run again" if file != place else "download it again with --force"
    if not sha256.startswith(published):
        raise WeightsError(
            f"{place}: the sha256 is {sha256}, the authors' begins with {published}: damaged, or not theirs; {remove}"
        )
    if known not in (None, sha256):
        raise WeightsError(
            f"{place}: the sha256 is {sha256}, but was {known} when the file was first here: its authors changed it, "
            f"or somebody exchanged it; {remove}, or, to trust this one, delete {record} first"
        )
    if known is None:
        with open_checkpoint(file):  # a file that is none is not to be trusted
            pass
        _write_record(record, sha256, place.name, address)
        if not published:
            log.info("%s: no sha256 is published; this first one is kept, to compare with: %s", place.name, sha256)
    return sha256, "published" if published else "recorded" if known else "first"


def _recorded(record: Path) -> str | None:
    try:
        lines = record.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{record}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    words = next((line.split() for line in lines if line.strip() and not line.startswith("#")), [""])
    if not re.fullmatch("[0-9a-f]{64}", words[0]):
        raise WeightsError(f"{record}: holds no sha256, expected `SHA256  NAME` as sha256sum writes it; delete it")
    return words[0]


def _write_record(record: Path, sha256: str, name: str, address: str | None) -> None:
    origin = f"# from {shown(address)}\n" if address else ""
    try:
        write_atomic(record, f"{origin}{sha256}  {name}\n".encode())
    except PaddleCaitError as error:  # a shared folder that only its owner writes
        log.warning("%s, so the sha256 is not compared next time", error)


def _tell_licence(preset: Preset) -> None:
    free = not _NON_COMMERCIAL.search(preset.licence)
    line = "%s: licence of the weights: %s" + ("" if free else ", NO COMMERCIAL USE")
    log.log(logging.INFO if free else logging.WARNING, line, preset.full_name, preset.licence)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """The part in which ``path`` is gathered, for one process at a time; the others wait for it.

    The kernel holds the lock, so that of a process that was killed is gone with it. Where there are no locks (Windows,
    some network file systems) every process has a part of its own, which it does not keep.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file, locked = _lock(lock)
    except OSError as error:
        raise WeightsError(
            f"{path.parent}: cannot be written ({error.strerror}): choose another folder with {HOME}, or --dir"
        ) from error
    part = path.with_name(path.name + (".part" if locked else f".{os.getpid()}.part"))
    try:
        yield part
    finally:
        if not locked:
            discard(part)
        with file, contextlib.suppress(OSError):  # Windows removes no open file
            lock.unlink()


def _lock(lock: Path) -> tuple[BinaryIO, bool]:
    while True:
        file = open(lock, "ab")  # noqa: SIM115 - held until the download is over
        try:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("%s: another process is downloading it; waiting", lock.name[1:-5])
                fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            return file, False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file, True
        file.close()  # its last holder has removed it: what is locked here is nobody's
