"""One file from a server: resumed where it stopped, bounded in size and in time. What arrives is counted and hashed,
never interpreted."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paddle_cait.files import write_atomic
from paddle_cait.weights.http_source import (
    AgainError,
    DownloadError,
    ask,
    check_address,
    check_answer,
    continued_size,
    is_web_page,
    read_some,
    shown,
    validator_of,
    web_page,
)

log = logging.getLogger("paddle_cait")

PIECE = 1 << 20
PROGRESS = 1 << 20  # a connection that brought this much before it broke has not failed


@dataclass(frozen=True)
class Limits:
    """When to give up. ``timeout``: seconds without a byte; ``attempts``: failures in a row; ``wait``: seconds after
    the first, doubled after each further one; ``most_wait``: the longest, also of those that a server asks for."""

    timeout: float = 30.0
    attempts: int = 5
    wait: float = 1.0
    most_wait: float = 60.0
    most_bytes: int = 16 << 30


LIMITS = Limits()


def fetch(address: str, part: Path, limits: Limits = LIMITS) -> None:
    """Bring the file at ``address`` to ``part``.

    What an earlier call left at ``part`` is continued if the server says that the file is still the one of which it is
    a part (``part.json`` keeps what it said then), otherwise replaced. Digests that the server states are compared.

    Raises :class:`DownloadError`. What has arrived stays for the next call, unless it is of no use.
    """
    check_address(address)
    partial, failures, met = _Part(part, address), 0, False
    most = partial.size
    while not partial.whole:
        try:
            _attempt(partial, limits)
        except AgainError as error:
            met = met or error.met
            failures = 1 if partial.size >= most + PROGRESS else failures + 1
            most = max(most, partial.size)
            _wait(address, error, failures if met else limits.attempts, limits)
    partial.check()


def in_words(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


@dataclass
class _State:
    """Which file a part is of. ``digests``: those that the server states, by hashlib's names, in hex."""

    address: str
    validator: str | None = None
    size: int | None = None
    digests: dict[str, str] = field(default_factory=dict)


class _Part:
    """The bytes that have arrived, in a file, and beside it (written first) what they are part of."""

    def __init__(self, path: Path, address: str) -> None:
        self.path, self.about, self.address = path, beside(path), address
        try:
            self.state = _State(**json.loads(self.about.read_bytes()))
            known = self.state.address == address and self.size <= (self.state.size or self.size)
        except (OSError, ValueError, TypeError):
            known = False
        if not known:
            self.state = _State(address)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def whole(self) -> bool:
        return self.path.is_file() and self.size == self.state.size

    def begin(self, state: _State) -> None:
        self.path.unlink(missing_ok=True)
        self.state = state
        self.save()

    def save(self) -> None:
        write_atomic(self.about, json.dumps(asdict(self.state)).encode())

    def discard(self) -> None:
        discard(self.path)
        self.state = _State(self.address)

    def check(self) -> None:
        """Compare with the digests that the server stated; few state any."""
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in self.state.digests}
        if hashes:
            with open(self.path, "rb") as file:
                for piece in iter(lambda: file.read(PIECE), b""):
                    for digest in hashes.values():
                        digest.update(piece)
        for name, digest in hashes.items():
            stated, found = self.state.digests[name], digest.hexdigest()
            if found != stated:
                self.discard()
                raise DownloadError(
                    f"{shown(self.address)}: arrived damaged and was removed: its {name} is {found}, the server states "
                    f"{stated}; run again"
                )


def beside(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def discard(part: Path) -> None:
    """Remove a part and what was known of it."""
    part.unlink(missing_ok=True)
    beside(part).unlink(missing_ok=True)


def _attempt(part: _Part, limits: Limits) -> None:
    """One request, and what comes of it."""
    have = part.size if part.state.validator else 0
    validator = str(part.state.validator)
    answer, digests = ask(
        part.address, {"Range": f"bytes={have}-", "If-Range": validator} if have else {}, limits.timeout
    )
    with answer:
        size = continued_size(answer, have, part.state.size, validator) if have and answer.status == 206 else None
        if answer.status == 416 or (answer.status == 206 and size is None):
            part.discard()
            raise AgainError("another part of the file came than was asked for")
        check_answer(answer, part.address, limits.timeout)
        if answer.status == 200:
            if have:
                log.info("%s: begun anew: the file has changed, or the server cannot resume", part.path.name)
            part.begin(_State(part.address, validator_of(answer.headers), answer.length, digests))
        else:
            part.state.size = size
        _check_room(part, limits)
        _receive(answer, part, limits)


def _check_room(part: _Part, limits: Limits) -> None:
    size = part.state.size or 0
    if size > limits.most_bytes:
        raise DownloadError(
            f"{shown(part.address)}: is of {in_words(size)}, expected at most {in_words(limits.most_bytes)}"
        )
    free, wanted = shutil.disk_usage(part.path.parent).free, size - part.size
    if wanted > free:
        raise DownloadError(
            f"{part.path.parent}: {in_words(wanted)} are needed and {in_words(free)} are free: make room, or choose "
            "another folder"
        )


def _receive(answer: Any, part: _Part, limits: Limits) -> None:
    """Append what comes, up to the size that was stated; without one, until the server ends it."""
    size, end = part.size, part.state.size
    bar = tqdm(total=end, initial=size, unit="B", unit_scale=True, desc=part.path.stem[:40], disable=None)
    try:
        with bar, open(part.path, "ab") as file:
            while end is None or size < end:
                piece = read_some(answer, PIECE if end is None else min(PIECE, end - size), limits.timeout)
                if not piece:
                    break
                if size == 0 and is_web_page(piece):
                    raise web_page(part.address, piece)
                size += len(piece)
                if size > limits.most_bytes:
                    raise DownloadError(f"{shown(part.address)}: does not end after {in_words(limits.most_bytes)}")
                file.write(piece)
                bar.update(len(piece))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DownloadError(f"{part.path}: cannot be written ({error.strerror}); what has arrived is kept") from error
    except DownloadError:
        part.discard()
        raise
    if end is None:
        part.state.size = size
        part.save()
    elif size < end:
        raise AgainError(f"the connection ended after {size} of {end} bytes")


def _wait(address: str, error: AgainError, failures: int, limits: Limits) -> None:
    if failures >= limits.attempts:
        times = f", {failures} times in a row" if failures > 1 and error.met else ""
        raise DownloadError(f"{shown(address)}: {error}{times}") from error
    if error.wait is not None and error.wait > limits.most_wait:
        raise DownloadError(f"{shown(address)}: {error} and asks to wait {error.wait:.0f} s: run again then") from error
    wait = min(limits.wait * 2 ** (failures - 1), limits.most_wait) if error.wait is None else error.wait
    log.info("%s: %s; again in %.0f s", shown(address), error, wait)
    time.sleep(wait)
