"""A server on 127.0.0.1 that keeps to HTTP or breaks it on purpose, one behaviour for each request."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """Offers ``body``. The n-th request is answered by ``script[n]``, those after its end by :func:`whole`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, body: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = body
        self.script: list[Behaviour] = []
        self.requests: list[tuple[str, dict[str, str]]] = []  # (path, headers in lower case)
        self.over = threading.Event()
        self._counting = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next(self, path: str, headers: dict[str, str]) -> Behaviour:
        with self._counting:
            self.requests.append((path, headers))
            return self.script.pop(0) if self.script else whole

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what is tested."""

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.next(self.path, {key.lower(): value for key, value in self.headers.items()})(self)

    def begin(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


Behaviour = Callable[[_Handler], None]


def etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def whole(handler: _Handler) -> None:
    """The file, or the range that is asked for if the file is still the one it is asked of."""
    body, tag = handler.server.body, etag(handler.server.body)
    first = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("range", ""))
    if first and handler.headers.get("if-range") == tag:
        start = int(first[1])
        if start >= len(body):
            handler.begin(416, content_range=f"bytes */{len(body)}", content_length=0)
            return
        size = {"content_range": f"bytes {start}-{len(body) - 1}/{len(body)}", "content_length": len(body) - start}
        handler.begin(206, etag=tag, **size)
        handler.wfile.write(body[start:])
    else:
        handler.begin(200, etag=tag, content_length=len(body))
        handler.wfile.write(body)


def stops(at: int, then: str = "close", **headers: object) -> Behaviour:
    """Sends the first ``at`` bytes of those it promises; then closes, resets or says nothing more."""

    def behave(handler: _Handler) -> None:
        body = handler.server.body
        handler.begin(200, **{"etag": etag(body), "content_length": len(body), **headers})
        handler.wfile.write(body[:at])
        handler.wfile.flush()
        if then == "stall":
            handler.server.over.wait(20)
        elif then == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

    return behave


def more(count: int) -> Behaviour:
    """Sends ``count`` bytes of the range that is asked for, then closes."""

    def behave(handler: _Handler) -> None:
        body, start = handler.server.body, int(handler.headers["range"][6:-1])
        size = {"content_range": f"bytes {start}-{len(body) - 1}/{len(body)}", "content_length": len(body) - start}
        handler.begin(206, **size)
        handler.wfile.write(body[start : start + count])

    return behave


def silent(handler: _Handler) -> None:
    """Takes the request and never answers."""
    handler.server.over.wait(20)


def says(status: int, body: bytes = b"", **headers: object) -> Behaviour:
    """Any status, headers and body."""

    def behave(handler: _Handler) -> None:
        handler.begin(status, **{"content_length": len(body), **headers})
        handler.wfile.write(body)

    return behave


def lengthless(handler: _Handler) -> None:
    """The file up to the end of the connection."""
    handler.begin(200, etag=etag(handler.server.body))
    handler.wfile.write(handler.server.body)


def chunked(handler: _Handler) -> None:
    handler.begin(200, transfer_encoding="chunked")
    for piece in (handler.server.body, b""):
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))


def endless(handler: _Handler) -> None:
    """Without a length and far beyond every limit of a test; no further, so that a missing limit fills no disk."""
    handler.begin(200)
    for _ in range(32):
        handler.wfile.write(bytes(1 << 20))


def garbled(handler: _Handler) -> None:
    """No HTTP at all."""
    handler.wfile.write(b"220 mail.example.org ESMTP\r\n")


def wait_for_bytes(path: Path, count: int, seconds: float = 20) -> None:
    """Until another process has written so many."""
    end = time.monotonic() + seconds
    while not path.exists() or path.stat().st_size < count:
        assert time.monotonic() < end, f"{path} does not grow"
        time.sleep(0.005)
