"""The page stays on its machine: headers, tags, connections, folders; and the verb's own mistakes are one line."""

import asyncio
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers import ROOT

from paddle_cait.app import serve, texts
from paddle_cait.cli import app
from paddle_cait.errors import ConfigError, PaddleCaitError

GRADIO_4 = b"""<head><link rel="preconnect" href="https://fonts.googleapis.com" />
<link
  rel="preconnect"
  href="https://fonts.gstatic.com"
  crossorigin="anonymous"
/><link rel="stylesheet" href="./assets/index.css">
<script
  src="https://cdnjs.cloudflare.com/ajax/libs/iframe-resizer/4.3.1/iframeResizer.contentWindow.min.js"
  async
></script><script type="module" src="./assets/index.js"></script></head>"""


def answered(content_type, pieces, extra=()):
    """What a client gets of an application behind the middleware."""

    async def application(scope, receive, send):
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % sum(map(len, pieces))), *extra]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, piece in enumerate(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": number + 1 < len(pieces)})

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(serve.Headers(application)({"type": "http"}, None, send))
    return dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:]), sent


def test_pages_lose_the_tags_that_load_from_elsewhere():
    headers, body, _ = answered(b"text/html; charset=utf-8", [GRADIO_4[:100], GRADIO_4[100:]])
    assert b"https://" not in body
    assert b'href="./assets/index.css"' in body and b'src="./assets/index.js"></script></head>' in body
    assert headers[b"content-length"] == b"%d" % len(body)
    assert b"default-src 'self'" in headers[b"content-security-policy"]


def test_other_answers_pass_as_they_come():
    _, body, sent = answered(b"application/json", [b'"<link href="https://a">', b'"'])
    assert body == b'"<link href="https://a">"' and len(sent) == 3
    zipped = [(b"content-encoding", b"gzip")]
    assert answered(b"text/html", [b'<link href="https://a">'], zipped)[1] == b'<link href="https://a">'


ALONE = """
import socket, sys
from paddle_cait.app.serve import stay_here
stay_here("127.0.0.1")
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()  # this machine
for attempt in (
    lambda: socket.create_connection(("192.0.2.1", 80), 1),
    lambda: socket.create_connection(("example.org", 80), 1),
    lambda: socket.getaddrinfo(b"example.org", 80),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
):
    try:
        attempt()
    except ConnectionRefusedError as error:
        assert "stays on its machine" in str(error)
    else:
        sys.exit("it went out")
"""


def test_a_process_that_stays_here_connects_to_nobody_else():
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_folder_of_uploads_is_private(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    folder = serve.own_folder()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_missing_or_old_gradio_is_one_line(monkeypatch):
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(PaddleCaitError, match=r'^gradio is not installed: pip install "paddle_cait\[app\]"$'):
        serve.gradio()
    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(__version__="3.50.2"))
    with pytest.raises(PaddleCaitError, match=r"gradio is 3.50.2, expected 4.44 or newer"):
        serve.gradio()
    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(__version__="5.0.0b1"))
    assert serve.gradio().__version__ == "5.0.0b1"


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"port": 0}, "--port 0"), ({"max_upload": 0.0}, "--max-upload 0"), ({"threads": 0}, "--threads 0")],
)
def test_flags_are_checked_before_anything_is_loaded(changes, told):
    given = {"port": 7860, "max_upload": 20.0, "threads": None, **changes}
    with pytest.raises(ConfigError, match=told):
        app.run(SimpleNamespace(**given))


def test_every_text_is_there_in_both_languages(monkeypatch):
    from paddle_cait.explain.catalogue import METHODS

    for key, both in texts.TEXTS.items():
        assert len(both) == 2 and all(both), key
        fields = [{part.split("}")[0] for part in one.split("{")[1:]} for one in both]
        assert fields[0] == fields[1], key
    assert all(texts.method_line(lang, method) for lang in texts.LANGUAGES for method in METHODS)
    for locale, expected in (("zh_CN.UTF-8", "zh"), ("de_DE.UTF-8", "en"), ("", "en")):
        monkeypatch.setenv("LC_ALL", locale)
        monkeypatch.delenv("LC_MESSAGES", raising=False)
        monkeypatch.delenv("LANG", raising=False)
        assert texts.language() == expected
    assert texts.language("zh") == "zh"
