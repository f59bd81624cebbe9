"""Serving the page, and keeping it on this machine: no share link, no statistics, nothing fetched by page or server."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, MutableMapping
from pathlib import Path
from typing import Any, Callable

from paddle_cait.errors import ConfigError, PaddleCaitError

OLDEST = (4, 44)

# The browser is told to load nothing from elsewhere; gradio's own code needs inline scripts, eval and blobs.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
# Tags of gradio 4's page for Google's fonts and a script of cdnjs. A policy does not stop a preconnect.
_AWAY = re.compile(rb"<link\b[^>]*href=\"https?://[^>]*>|<script\b[^>]*src=\"https?://[^>]*>\s*</script>")
_Message = MutableMapping[str, Any]


def gradio() -> Any:
    """The module, or one line that says how to get it. Set up before its first import: it reads the environment."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio as gr
    except ImportError as error:
        if error.name != "gradio":
            raise PaddleCaitError(f'gradio cannot be imported ({error}): pip install "paddle_cait[app]"') from error
        raise PaddleCaitError('gradio is not installed: pip install "paddle_cait[app]"') from error
    version = tuple(map(int, re.findall(r"\d+", gr.__version__)[:2]))
    if version < OLDEST:
        raise PaddleCaitError(f"gradio is {gr.__version__}, expected 4.44 or newer: pip install -U gradio")
    return gr


def own_folder() -> Path:
    """A new folder that no other user can read, for uploads and pictures; removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="paddle-cait-app-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")  # read when components are made
    return folder


def launch(
    blocks: Any,
    host: str | None = None,
    port: int | None = None,
    *,
    max_upload: float = 20,
    alone: bool = True,
    wait: bool = True,
) -> str:
    """Serve the page and return its address.

    Args:
        blocks: of :func:`paddle_cait.app.page.build`.
        host, port: None is what gradio takes: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, or 127.0.0.1 and the first
            free port from 7860.
        max_upload: of any file, in MB.
        alone: this process connects to no other machine any more (:func:`stay_here`).
        wait: say the address and stay until the process is interrupted or told to end; photographs are deleted then.

    Raises :class:`ConfigError` if the port is taken.
    """
    gr = gradio()
    from paddle_cait.app.layout import known, looks

    settings: dict[str, Any] = {
        "share": False,
        "quiet": True,
        "show_error": False,
        "max_file_size": round(max_upload * 2**20),
        "app_kwargs": {"middleware": [_middleware()]},
        # Not in all versions: the list of functions, saved runs, a server of Node's.
        **known(
            gr.Blocks.launch, show_api=False, footer_links=["gradio"], run_history=False, ssr_mode=False, pwa=False
        ),
        **looks(gr, gr.Blocks.launch),
    }
    _trust_own_address(host)
    if alone:
        stay_here(host)
    try:
        _, address, _ = blocks.launch(server_name=host, server_port=port, prevent_thread_lock=True, **settings)
    except OSError as error:
        where = f"{host or '127.0.0.1'}, port {port or 'from 7860'}"
        raise ConfigError(f"{where}: is taken, or no address of this machine: choose another port or host") from error
    if wait:
        print(f"{address} (Ctrl+C ends it)", flush=True)
        _stay(blocks)
    return str(address)


def _stay(blocks: Any) -> None:
    """Until Ctrl+C or SIGTERM: either way Python ends as usual, and with it the folder of photographs."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell lets what it starts with & ignore it
        signal.signal(number, end)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        blocks.close(verbose=False)


def stay_here(host: str | None = None) -> None:
    """From now on this process connects to no machine but this one, and asks no name server but for ``host``.

    For the whole process and for good: only who serves the page and does nothing else wants it. Without, gradio fetches
    whatever address a browser sends in place of an uploaded file.
    """
    allowed = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "", host}

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            target = args[1][0] if isinstance(args[1], tuple) else None  # a Unix socket has a path
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            target = args[0]
        else:
            return
        name = target.decode("ascii", "replace") if isinstance(target, bytes) else target
        if name is not None and name not in allowed and not str(name).startswith("127."):
            raise ConnectionRefusedError(f"{name}: this process stays on its machine")

    sys.addaudithook(watch)


class Headers:
    """ASGI middleware: the policy on every answer, and pages without tags that would load from elsewhere."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: _Message, receive: Any, send: Callable[[_Message], Awaitable[None]]) -> None:
        start: _Message = {}
        body = bytearray()

        async def answer(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
                if not _is_page(message):
                    await send(message)
                    return
                start.update(message)
            elif start and message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if message.get("more_body"):
                    return
                page = _AWAY.sub(b"", bytes(body))
                length = (b"content-length", str(len(page)).encode())
                start["headers"] = [pair for pair in start["headers"] if pair[0].lower() != length[0]] + [length]
                await send(dict(start))
                await send({"type": "http.response.body", "body": page})
            else:
                await send(message)

        await self.app(scope, receive, answer if scope["type"] == "http" else send)


_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def _is_page(message: _Message) -> bool:
    """HTML that is not compressed."""
    headers = {key.lower(): value for key, value in message["headers"]}
    return headers.get(b"content-type", b"").startswith(b"text/html") and b"content-encoding" not in headers


def _middleware() -> Any:
    from starlette.middleware import Middleware

    return Middleware(Headers)


def _trust_own_address(host: str | None) -> None:
    """gradio asks itself whether it runs; a proxy named in the environment would not find it."""
    for key in ("NO_PROXY", "no_proxy"):
        names = [name for name in os.environ.get(key, "").split(",") if name]
        os.environ[key] = ",".join(dict.fromkeys([*names, "127.0.0.1", "localhost", *([host] if host else [])]))
