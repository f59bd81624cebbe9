"""The page in a real browser: headless Chromium drops photographs, drags, clicks, downloads, and logs each request."""

import io
import os
import queue
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason='the page: pip install "paddle_cait[app]"')
playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser: pip install playwright")
pytest.importorskip("matplotlib", reason="draws: pip install matplotlib")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium: apt-get install chromium", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 20_000  # milliseconds: of patience with the page

# The verb, telling of each connection that its process tries to make to another machine, and each name it asks for.
SERVER = """
import sys
def told(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        where = args[1] if event != "socket.getaddrinfo" else args
        host = where[0] if isinstance(where, tuple) else None
        if host not in (None, b"127.0.0.1", "127.0.0.1", "localhost", "0.0.0.0"):
            print("OUTSIDE", event, host, file=sys.stderr, flush=True)
sys.addaudithook(told)
from paddle_cait.cli.main import main
sys.exit(main(["app", *sys.argv[1:]]))
"""


class Server:
    """The verb as a process; ``said``: its standard error so far."""

    def __init__(self, scratch):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        weights = ["--weights", str(ROOT / "pretrained"), "--preset-file", str(ROOT / "configs/finetune/presets.yaml")]
        command = [*weights, "--port", str(self.port), "--max-upload", "2", "--lang", "en", "--device", "cpu"]
        self.scratch = scratch
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, *command],
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said, lines = [], queue.Queue()
        threading.Thread(target=self._listen, args=(self.process.stderr, self.said.append), daemon=True).start()
        threading.Thread(target=self._listen, args=(self.process.stdout, lines.put), daemon=True).start()
        self.address = lines.get(timeout=60).split()[0]

    @staticmethod
    def _listen(stream, tell):
        for line in stream:
            tell(line)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("app"))
    yield found
    found.process.kill()
    found.process.communicate()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as library:
        found = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(server, browser):
    """A visitor's page, ready for a photograph; everything it asked for came from the server."""
    found = browser.new_page(viewport={"width": 1300, "height": 1200}, accept_downloads=True)
    asked, failed = [], []
    found.on("request", lambda request: asked.append(request.url))
    found.on("pageerror", lambda error: failed.append(str(error)))
    found.on("console", lambda line: failed.append(line.text) if "Content Security Policy" in line.text else None)
    found.goto(server.address)
    found.wait_for_selector("#about-model >> text=input", timeout=SECONDS)  # the first model is there
    yield found
    found.close()
    own = (server.address, "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []
    assert failed == []


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A real one, that matplotlib brings along."""
    from matplotlib import cbook

    path = tmp_path_factory.mktemp("photo") / "hopper.jpg"
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        path.write_bytes(file.read())
    return path


def drop(page, path):
    """Hand a file to the page, as dropping it there does."""
    page.set_input_files("#photo input[type=file]", str(path))


def picture(page):
    """The pixels of the picture that the page shows now."""
    address = page.get_attribute("#picture img", "src", timeout=SECONDS)
    return np.asarray(Image.open(io.BytesIO(page.request.get(address).body())))


def changed(page, act):
    """The new picture, once ``act`` has changed it."""
    before = page.get_attribute("#picture img", "src", timeout=SECONDS)
    act()
    page.wait_for_function(
        "old => { const i = document.querySelector('#picture img'); return i && i.getAttribute('src') != old }",
        arg=before,
        timeout=SECONDS,
    )
    return picture(page)


def choose(page, box, start):
    """An entry of a dropdown, by how it begins."""
    page.click(f"#{box} input")
    page.locator(f"#{box} [role=option], ul[role=listbox] li").filter(has_text=start).first.click()


def click_beside_the_middle(page):
    """Where the photograph is, whatever the page leaves around it."""
    box = page.locator("#picture img").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2 - 60, box["y"] + box["height"] / 2 - 60)


def test_a_visit(page, server, photograph):
    choose(page, "checkpoint", "flowers_cait")
    page.wait_for_selector("text=5 classes", timeout=SECONDS)
    drop(page, photograph)
    page.wait_for_selector("#prediction >> text=%", timeout=SECONDS)
    assert any(name in page.inner_text("#prediction") for name in ("daisy", "dandelion", "rose", "sunflower", "tulip"))
    last = picture(page)
    assert last.ndim == 3 and last.std() > 10  # several heads of a photograph, no blank sheet

    slider = page.locator("#layer input[type=range]")
    first = changed(page, lambda: (slider.focus(), page.keyboard.press("ArrowLeft")))
    assert first.shape == last.shape and np.abs(first - last.astype(float)).mean() > 0.5
    assert "blocks_token_only.0.attn" in page.inner_text("#about")

    choose(page, "method", "patch-attention")
    page.wait_for_selector("#about >> text=Click on the picture", timeout=SECONDS)
    middle = changed(page, lambda: page.click("#show >> text=one"))
    clicked = changed(page, lambda: click_beside_the_middle(page))
    assert np.abs(clicked - middle.astype(float)).mean() > 0.5  # another patch looks

    with page.expect_download(timeout=SECONDS) as waiting:
        page.click("#png")
    assert waiting.value.suggested_filename == "hopper_patch-attention.png"
    with Image.open(waiting.value.path()) as figure:
        assert figure.format == "PNG" and figure.size[0] == 660  # a column of 3.3 inches at 200 dots
        # of 12 x 12 patches, the middle is row 6, column 6
        assert re.search(r"^hopper.jpg: attention of the patch in row [345], column [345],", figure.text["Title"])
    with page.expect_download(timeout=SECONDS) as waiting:
        page.click("#npz")
    with np.load(waiting.value.path()) as arrays:
        (layer,) = [name for name in arrays if name.startswith("blocks.")]
        assert arrays[layer].shape[1:] == (12, 12)

    choose(page, "method", "grad-cam")
    page.wait_for_selector("#message >> text=Grad-CAM needs a map", timeout=SECONDS)
    choose(page, "method", "positions")  # a diagram of the weights alone
    page.wait_for_selector("#picture img", timeout=SECONDS)
    assert page.is_hidden("#message")
    assert troubles(server) == []


def png(width, height):
    """A PNG that says it has so many pixels, and has none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_what_is_no_photograph_gets_a_message(page, server, photograph, tmp_path):
    whole = photograph.read_bytes()
    cases = {
        "text.jpg": (b"Dear reader, this is no photograph.\n" * 20, "not an image"),
        "empty.jpg": (b"", "0 bytes"),
        "half.jpg": (whole[: len(whole) // 2], "cannot be decoded"),
        "bomb.png": (png(60000, 60000), "decompression bomb"),
    }
    for name, (data, told) in cases.items():
        (tmp_path / name).write_bytes(data)
        drop(page, tmp_path / name)
        page.wait_for_selector(f"#message >> text={name}", timeout=SECONDS)
        assert told in page.inner_text("#message"), name
        page.locator("#photo button[aria-label=Clear], #photo button[aria-label='Remove Image']").first.click()
        page.wait_for_selector("#about >> text=Choose a photograph", timeout=SECONDS)
    (tmp_path / "large.jpg").write_bytes(whole + bytes(3 << 20))
    drop(page, tmp_path / "large.jpg")
    page.wait_for_selector("text=/exceed|too large|maximum/i", timeout=SECONDS)
    assert troubles(server) == []


def test_the_page_names_no_other_server(page, server):
    answer = page.request.get(server.address)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]
    assert not any(name in answer.text() for name in ("cdnjs", "fonts.googleapis", "fonts.gstatic"))


def test_sigterm_leaves_no_photographs(server, photograph):
    """Last: it ends the server."""
    (folder,) = server.scratch.glob("paddle-cait-app-*")
    assert folder.stat().st_mode & 0o077 == 0 and list(folder.rglob("*.jpg"))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=20) == 0
    assert not folder.exists()
    assert troubles(server) == []


def troubles(server):
    """What the server should not have said."""
    return [line for line in server.said if line.startswith(("Traceback", "OUTSIDE")) or "Error" in line]
