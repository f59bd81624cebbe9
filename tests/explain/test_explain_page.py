"""docs/explain.md: the page is served by its three lines, its table is the code's, its pictures are there.

Its commands and its program run in tests/docs/test_pages.py.
"""

import inspect
import re
from pathlib import Path

import pytest
from helpers import ROOT

from paddle_cait.explain.catalogue import METHODS

PAGE = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
SERVED = next(found for found in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S) if "launch(" in found)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in ("pretrained", "configs", "docs"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_in_three_lines(checkout, monkeypatch):
    from paddle_cait.app import page, serve

    launched = []

    def build(*args, **kwargs):
        inspect.signature(own).bind(*args, **kwargs)
        assert all(Path(file).is_file() for file in (*args[0], kwargs["preset_file"]))
        return "the page"

    own = page.build
    monkeypatch.setattr(page, "build", build)
    monkeypatch.setattr(serve, "launch", launched.append)
    exec(compile(SERVED, "docs/explain.md", "exec"), {})
    assert launched == ["the page"]


def test_the_table_names_every_method_and_every_picture_exists():
    rows = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)?) \|", PAGE, re.M)
    assert [name for row in rows for name in re.findall(r"`([a-z-]+)`", row)] == list(METHODS)
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE)
    assert len(pictures) >= 8 and all((ROOT / "docs" / name).is_file() for name in pictures)
