"""The wheel and the sdist, built from a copy of the checkout, and a fresh environment with the wheel in it.

Nothing is downloaded: setuptools is the running environment's, and so are Paddle and the other dependencies, which the
fresh environment finds through a ``.pth`` file. Editable installs do not come along that way.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(kind, source, target):
    """The one file that setuptools makes of ``source``; ``kind`` is wheel or sdist."""
    target.mkdir(exist_ok=True)
    code = "import sys; from setuptools import build_meta; getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])"
    done = subprocess.run([sys.executable, "-c", code, kind, target], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="session")
def builder():
    return build


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of what git would keep, tests too, so that they could slip into a wheel."""
    pytest.importorskip("setuptools", minversion="70.1", reason="the extra `test` installs one that builds wheels")
    copy = tmp_path_factory.mktemp("packaging") / "checkout"
    other = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "output", "*.egg-info")

    def ignored(folder, names):
        own = [name for name in names if not name.startswith(("README", "demo_", "flowers_"))]
        return own if Path(folder) == ROOT / "pretrained" else other(folder, names)

    return shutil.copytree(ROOT, copy, ignore=ignored)


@pytest.fixture(scope="session")
def wheel(checkout):
    return build("wheel", checkout, checkout.parent / "wheel")


@pytest.fixture(scope="session")
def sdist(checkout):
    return build("sdist", checkout, checkout.parent / "sdist")


@pytest.fixture(scope="session")
def installed(wheel):
    """The folder of an environment's commands, with the wheel installed by pip."""
    home = wheel.parent.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    (site,) = home.rglob("site-packages")
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    return home / "bin"


@pytest.fixture
def run(installed, tmp_path):
    """Run a command of the environment in an empty folder, as somebody who has no checkout does."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(command, *words):
        line = [installed / command, *map(str, words)]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run
