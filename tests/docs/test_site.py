"""The site: every public name is on an API page, and it builds without a warning (where Sphinx is installed)."""

import inspect
import re
import subprocess
import sys

import pytest
from doc_pages import DOCS, ROOT

import paddle_cait as pc
from paddle_cait.factory import FAMILIES

PAGES = "".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "api").glob("*.md")))
DOCUMENTED = set(re.findall(r"^\.\. auto(?:function|class|exception|data):: ([\w.]+)$", PAGES, re.M))


def test_every_public_name_is_documented():
    public = {f"paddle_cait.{name}" for name in pc.__all__ if name != "explain"}  # a room; its names are below
    explain = {f"paddle_cait.explain.{name}" for name in dir(pc.explain) if name != "capture_attention"}
    classes = {f"{module}.{name}" for module, name in FAMILIES.values()}
    assert public | explain | classes <= DOCUMENTED, (public | explain | classes) - DOCUMENTED


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_what_is_documented_exists_and_says_something(name):
    found, parts = pc, name.split(".")[1:]
    for i, part in enumerate(parts):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = __import__(".".join(["paddle_cait", *parts[: i + 1]]), fromlist=[part])
    if isinstance(found, type) or inspect.isfunction(found):
        assert (found.__doc__ or "").strip(), name


def test_the_index_names_every_page():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.stem == "index" or f"]({page.name})" in index, page.name


def test_it_builds(tmp_path):
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason="the site: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-E", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", tmp_path / "trees", "docs", tmp_path / "html"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "api" / "models.html").stat().st_size > 10_000
