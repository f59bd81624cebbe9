"""Downloads from a server that does what servers, networks and strangers do."""

import base64
import email.utils
import gzip
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
from http_server import Server, chunked, endless, garbled, lengthless, more, says, silent, stops, wait_for_bytes, whole

from paddle_cait.errors import PaddleCaitError
from paddle_cait.weights import download
from paddle_cait.weights.download import Limits, fetch
from paddle_cait.weights.http_source import DownloadError, NotThereError, check_address

BODY = bytes(range(256)) * 800  # 204,800 bytes
QUICK = Limits(timeout=0.25, attempts=3, wait=0.01, most_wait=0.5, most_bytes=1 << 20)
PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan&nbsp;warning</title></head>"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with Server(BODY) as found:
        yield found


@pytest.fixture
def part(tmp_path):
    return tmp_path / "file.pth.part"


def bring(server, part, *script, limits=QUICK):
    server.script = list(script)
    fetch(f"{server.address}/file.pth", part, limits)
    assert part.read_bytes() == server.body and not server.script


def refused(server, part, *script, limits=QUICK):
    server.script = list(script)
    with pytest.raises(DownloadError) as error:
        fetch(f"{server.address}/file.pth?signature=secret", part, limits)
    message = str(error.value)
    assert "\n" not in message and "secret" not in message and not server.script
    return message.replace(server.address, "")


def asked(server):
    return [headers.get("range") for _, headers in server.requests]


def test_a_file_as_it_is(server, part):
    bring(server, part)
    [(path, headers)] = server.requests
    assert path == "/file.pth" and headers["accept-encoding"] == "identity" and "range" not in headers
    assert headers["user-agent"].startswith("paddle-cait/")
    bring(server, part)
    assert len(server.requests) == 1  # it is whole already


@pytest.mark.parametrize("then", ["close", "reset", "stall"])
def test_a_broken_connection_goes_on_where_it_stopped(server, part, then):
    bring(server, part, stops(70_000, then))
    first, second = asked(server)
    assert first is None and server.requests[1][1]["if-range"].startswith('"')
    assert second == "bytes=70000-" or then == "reset"  # which may lose what had not been read


def test_a_later_process_goes_on_too(server, part):
    message = refused(server, part, stops(70_000), *[says(503)] * 2)
    assert message == "/file.pth: the server answers HTTP 503 Service Unavailable, 3 times in a row"
    assert part.stat().st_size == 70_000
    server.requests.clear()
    fetch(f"{server.address}/file.pth?signature=secret", part, QUICK)
    assert asked(server) == ["bytes=70000-"] and part.read_bytes() == BODY


def test_a_connection_that_brought_something_has_not_failed(server, part, monkeypatch):
    monkeypatch.setattr(download, "PROGRESS", 30_000)
    bring(server, part, stops(30_000), *[more(30_000)] * 5)
    assert asked(server) == [None, *(f"bytes={n}-" for n in range(30_000, 200_000, 30_000))]


def test_progress_that_is_lost_again_is_none(server, part, monkeypatch):
    monkeypatch.setattr(download, "PROGRESS", 30_000)
    message = refused(server, part, *[stops(30_000, etag="")] * 3)  # nothing says that it is the same file: from 0
    assert "ended after 30000 of 204800 bytes, 3 times in a row" in message


def test_the_waiting_grows_and_is_bounded(server, part, monkeypatch):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    refused(server, part, *[says(503)] * 8, limits=Limits(attempts=8, wait=1.0, most_wait=20.0))
    assert waits == [1, 2, 4, 8, 16, 20, 20]


def test_a_file_that_changed_is_not_spliced(server, part):
    def changes(handler):
        stops(70_000)(handler)
        server.body = bytes(50_000) + BODY

    bring(server, part, changes)
    assert asked(server) == [None, "bytes=70000-"]


def test_a_part_is_of_one_address(server, part):
    refused(server, part, *[stops(70_000)] * 3)
    server.body, server.requests = BODY[::-1], []
    bring(server, part)
    assert asked(server) == [None]


@pytest.mark.parametrize("about", [b"", b"[]", b"{}", b'{"address": 1, "size": "x"}', None])
def test_a_part_of_unknown_origin_is_replaced(server, part, about):
    part.write_bytes(b"stale" * 100)
    if about is not None:
        part.with_name(part.name + ".json").write_bytes(about)
    bring(server, part)
    assert asked(server) == [None]


def test_a_server_that_ignores_ranges(server, part):
    bring(server, part, stops(70_000), says(200, BODY))
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("range_", "size"),
    [
        ("bytes 69999-204799/204800", 134_801),
        ("bytes 0-204799/204800", 204_800),
        ("bytes 70000-204798/204800", 134_799),
        ("bytes 70000-300000/300001", 230_001),
        ("bytes 70000-204799/*, junk", 134_800),
        ("", 134_800),
    ],
)
def test_another_range_than_asked_for_is_not_taken(server, part, range_, size):
    bring(server, part, stops(70_000), says(206, bytes(size), content_range=range_))
    assert asked(server) == [None, "bytes=70000-", None]


def test_the_range_of_another_version_is_not_taken(server, part):
    size = {"content_range": "bytes 70000-204799/204800", "content_length": 134_800}
    bring(server, part, stops(70_000), says(206, bytes(134_800), etag='"another"', **size))
    assert asked(server) == [None, "bytes=70000-", None]


def test_a_range_that_nobody_asked_for(server, part):
    bring(server, part, says(206, BODY[1000:], content_range="bytes 1000-204799/204800"))
    assert asked(server) == [None, None]


def test_a_part_longer_than_the_file(server, part):
    bring(server, part, stops(70_000), says(416))
    assert asked(server) == [None, "bytes=70000-", None]


def test_a_weak_etag_is_no_ground_to_resume_a_date_is(server, part):
    bring(server, part, stops(70_000, etag='W/"1"'))
    date = "Wed, 21 Oct 2020 07:28:00 GMT"
    part.unlink()
    bring(server, part, stops(70_000, etag='W/"1"', last_modified=date))
    assert asked(server) == [None, None, None, "bytes=70000-"] and server.requests[3][1]["if-range"] == date


@pytest.mark.parametrize("behaviour", [lengthless, chunked])
def test_no_length(server, part, behaviour):
    bring(server, part, behaviour)


def test_more_than_was_promised_is_not_taken(server, part):
    bring(server, part, says(200, BODY + b"and more", content_length=len(BODY)))
    part.unlink()
    bring(server, part, stops(70_000), says(206, BODY[70_000:] + b"more", content_range="bytes 70000-204799/204800"))
    assert asked(server) == [None, None, "bytes=70000-"]


def test_a_server_without_end_is_stopped(server, part):
    message = refused(server, part, endless)
    assert message == "/file.pth: does not end after 1.0 MiB" and not part.exists()
    assert "is of 9.31 GiB, expected at most 1.0 MiB" in refused(server, part, says(200, content_length=10**10))


def test_silence_ends(server, part):
    started = time.monotonic()
    assert refused(server, part, *[silent] * 3) == "/file.pth: nothing came for 0.25 s, 3 times in a row"
    assert time.monotonic() - started < 2


def test_a_server_that_does_not_speak_http(server, part):
    assert "/file.pth: the connection broke (220 mail" in refused(server, part, *[garbled] * 3)


def test_nobody_there(tmp_path, part, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/file.pth"
        with pytest.raises(DownloadError, match=r"file.pth: cannot be reached \(Connection refused\)$"):
            fetch(address, part, Limits(wait=30))  # without waiting
    with pytest.raises(DownloadError, match=r"cannot be reached"):
        fetch("http://no.such.host.invalid/file.pth", part)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (says(404), "/file.pth: is not there (HTTP 404 Not Found)"),
        (says(403, b"<Error>AccessDenied</Error>"), "/file.pth: is refused (HTTP 403 Forbidden)"),
        (says(511, PAGE), "/file.pth: is refused (HTTP 511 Network Authentication Required)"),
        (says(304), "/file.pth: is refused (HTTP 304 Not Modified)"),
        (says(407), "the proxy wants a password (HTTP 407 Proxy Authentication Required)"),
        (says(429, retry_after=3600), "429 Too Many Requests and asks to wait 3600 s: run again then"),
        (says(200, PAGE, content_type="text/html; charset=utf-8"), "('Google Drive - Virus scan\\xa0warning')"),
        (says(200, b"\n " + PAGE, content_type="application/octet-stream"), "open the address in a browser"),
        (says(200, b"", content_type="text/html"), "a web page came in place of the file"),
        (says(200, gzip.compress(BODY), content_encoding="gzip"), "comes compressed ('gzip')"),
        (says(302, location="ftp://127.0.0.1/file.pth"), "redirects to 'ftp://127.0.0.1/file.pth', which is not"),
        (says(302, location="file:///etc/passwd"), "redirects to 'file:///etc/passwd', which is not followed"),
    ],
)
def test_answers_that_are_no_file_are_told_at_once(server, part, behaviour, message):
    assert message in refused(server, part, behaviour)
    assert not part.exists()
    with pytest.raises(NotThereError):
        bring(server, part, says(410))


def test_a_page_in_the_middle_does_not_cost_what_is_here(server, part):
    refused(server, part, stops(70_000), says(200, PAGE, content_type="text/html"))
    assert part.stat().st_size == 70_000


@pytest.mark.parametrize("when", ["number", "date"])
def test_a_busy_server_is_asked_again_when_it_wants(server, part, monkeypatch, when):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    value = "7" if when == "number" else email.utils.formatdate(time.time() + 7.5, usegmt=True)
    bring(server, part, says(429, retry_after=value), says(503, retry_after="soon"), limits=Limits())
    assert waits[0] == pytest.approx(7, abs=1) and waits[1] == 2


def test_redirects_are_followed_and_circles_left(server, part):
    bring(
        server, part, stops(70_000), says(302, location="/elsewhere?x=1"), says(308, location="//" + server.address[7:])
    )
    assert [path for path, _ in server.requests] == ["/file.pth", "/file.pth", "/elsewhere?x=1", "/"]
    assert asked(server)[1:] == ["bytes=70000-"] * 3
    part.unlink()
    assert "redirects more than 10 times" in refused(server, part, *[says(301, location="/again")] * 11)


@pytest.mark.parametrize(
    ("address", "came_from", "message"),
    [
        (
            "http://example.org/a",
            "https://example.org/a?key=1",
            "https://example.org/a: redirects to http://example.org,",
        ),
        ("file:///etc/passwd", "", "is no address of a server"),
        ("ftp://example.org/a", "", "is no address of a server"),
        ("data:,x", "", "is no address of a server"),
        ("//example.org/a", "", "is no address of a server"),
        ("https:///a", "", "is no address of a server"),
        ("https://example.org:99999/", "", "is no address of a server"),
        ("https://[::1/", "", "is no address of a server"),
        ("https://me:word@example.org/a", "", "https://...@example.org: user names and passwords are not sent"),
    ],
)
def test_addresses_that_are_not_asked(address, came_from, message):
    with pytest.raises(DownloadError) as error:
        check_address(address, came_from)
    assert message in str(error.value) and "word@" not in str(error.value)
    check_address("https://example.org/a", "http://example.org/a")


def test_odd_addresses(server, part):
    stripped = urlsplit("/a\r\n").path == "/a"  # early releases of Python 3.9 keep the line break: as text
    broken = "/aHost:%20x" if stripped else "/a%0D%0AHost:%20x"
    for path, sent in (("/über uns/a+b%2B.pth", "/%C3%BCber%20uns/a+b%2B.pth"), ("/a\r\nHost: x", broken)):
        fetch(server.address + path, part, QUICK)
        assert server.requests[-1][0] == sent
    with pytest.raises(DownloadError):
        fetch("http://a b/", part, QUICK)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("stated", ["md5", "sha256"])
def test_digests_that_servers_state_are_compared(server, part, stated, right):
    """Google's storage sends them with the file, Hugging Face with the redirect to it."""
    digest = hashlib.new(stated, BODY if right else b"")
    google = {"x_goog_hash": f"crc32c=AAAAAA==,md5={base64.b64encode(digest.digest()).decode()}"}
    script = [stops(70_000, **(google if stated == "md5" else {}))]
    if stated == "sha256":
        script.insert(0, says(302, location="/blob", x_linked_etag=f'"{digest.hexdigest()}"'))
    if right:
        bring(server, part, *script)
        return
    message = refused(server, part, *script)
    assert f"arrived damaged and was removed: its {stated} is" in message and digest.hexdigest() in message
    assert not part.exists()


def test_no_room(server, part, monkeypatch):
    usage = shutil.disk_usage(part.parent)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert refused(server, part, whole).startswith(f"{part.parent}: 0.2 MiB are needed and 0.1 MiB are free: make room")


def test_a_disk_that_fills_up_meanwhile(server, part, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PaddleCaitError, match=r"cannot be written \(No space left on device\)"):
        fetch(f"{server.address}/file.pth", part, QUICK)


def test_a_proxy_of_the_environment(server, part, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address)
    fetch("http://authors.invalid/deit/file.pth", part, QUICK)
    assert server.requests[0][0] == "http://authors.invalid/deit/file.pth" and part.read_bytes() == BODY
    monkeypatch.setenv("no_proxy", "authors.invalid")
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch("http://authors.invalid/other.pth", part, QUICK)
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(DownloadError, match=r"cannot be reached \(.*socks5"):
        fetch("http://example.org/other.pth", part, QUICK)


def test_kill_9_in_the_middle(server, part):
    server.script = [stops(150_000, "stall")]
    code = "import sys; from pathlib import Path; from paddle_cait.weights.download import fetch;"
    command = [
        sys.executable,
        "-c",
        f"{code} fetch(sys.argv[1], Path(sys.argv[2]))",
        f"{server.address}/file.pth",
        part,
    ]
    child = subprocess.Popen(command)
    try:
        wait_for_bytes(part, 100_000)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    kept = part.stat().st_size
    assert 100_000 <= kept < len(BODY) and json.loads(part.with_name(part.name + ".json").read_text())["size"] == len(
        BODY
    )
    bring(server, part)
    assert asked(server) == [None, f"bytes={kept}-"]
