"""The pages again, with every runtime installed: blocks that need one; commands on a reader's files, on tiny ones."""

import sys
from pathlib import Path

import pytest
import torchvision_cpu  # noqa: F401  # before torchvision
from doc_pages import PAGES, ROOT, blocks, needs, run_command, steps, walk
from stand_ins import brought_down, lay_out, link_checkout, require

HEAVY = [page for page in PAGES if any(block.heavy for block in blocks(page))]
SHOWN = [(page, block) for page in HEAVY for block in blocks(page) if block.kind == "console" and block.heavy]
DONE = [page for page in HEAVY if any(block.heavy for block, _ in steps(page))]
NAME = {"ids": lambda value: str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value.line)}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    link_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", DONE, **NAME)
def test_what_it_shows(page, checkout):
    require(needs(page, heavy=True))
    walk(page, heavy=True)


@pytest.mark.parametrize(("page", "block"), SHOWN, **NAME)
def test_commands_on_the_readers_own_files_run_on_tiny_ones(page, block, checkout, capsys):
    require(block.needs)
    lay_out(checkout)
    for command in brought_down(block):
        if command.startswith("paddle-cait"):
            assert run_command(command, sys.stdout) == 0, capsys.readouterr()


def test_there_are_such_pages():
    assert [NAME["ids"](page) for page in HEAVY] == ["README.md", "docs/benchmarks/README.md", "docs/exporting.md"]
    assert len(SHOWN) == 3 and len(DONE) == 1
