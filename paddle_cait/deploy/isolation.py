"""Keeping other packages apart: their chatter, their crashes, their calls home.

Nothing here changes results. Paddle's and NNCF's C++ parts write to the process's own standard output, which Python's
redirection does not reach; paddle2onnx and oneDNN end the whole process when something is not to their liking;
importing OpenVINO sends usage statistics over the network.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

_COUNTERS = ("openvino_telemetry",)  # OpenVINO and NNCF do without it, as if it were not installed


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed inside, not even by C++; on an error, what was to be printed goes to stderr after all."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        try:
            for number in (1, 2):
                os.dup2(said.fileno(), number)
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):  # a notebook's are no files
                yield
        except Exception:
            said.seek(0)
            os.write(kept[1], said.read()[-4000:].encode())
            raise
        finally:
            for number, copy in zip((1, 2), kept):
                os.dup2(copy, number)
                os.close(copy)


@contextlib.contextmanager
def not_importable(*names: str) -> Iterator[None]:
    """Inside, these modules are as if they were not installed, unless the program has imported them already."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def import_openvino() -> None:
    """Import OpenVINO without its usage statistics."""
    with not_importable(*_COUNTERS):
        import openvino  # noqa: F401


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a Python of its own, with this one's import paths; whatever happens to it, this one lives."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "GLOG_minloglevel": "2",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-c", f"import sys; del sys.path[0]\n{code}", *arguments]  # sys.path[0]: the work folder
    return subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
