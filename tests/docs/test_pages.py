"""The pages' commands and programs do what stands below them; commands on files that a reader has are parsed."""

import argparse
import importlib
import re
import shlex

import pytest
from doc_pages import DOCS, ROOT, blocks, do, expected_status, lacking, steps

from paddle_cait.cli.common import parse
from paddle_cait.cli.main import VERBS

PAGES = ["index", "validating", "converting", "numerics", "troubleshooting", "architecture"]
SHOWN = [(page, block) for page in PAGES for block in blocks(DOCS / f"{page}.md") if block.kind == "console"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in ("pretrained", "configs", "docs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Paddle 2.6's paddle.save and NumPy's word to it
@pytest.mark.parametrize("page", PAGES)
def test_what_it_shows(page, checkout):
    """One block after the other, in one folder, as a reader does."""
    for block, shown in steps(DOCS / f"{page}.md"):
        where = f"docs/{page}.md:{block.line}"
        printed, statuses = do(block, where)
        assert all(status == 0 for status in statuses[:-1]), f"{where}: {statuses}\n{printed}"
        assert not statuses or statuses[-1] == expected_status(shown), f"{where}: {statuses}\n{printed}"
        missing = lacking(shown or "", printed)
        assert not missing, f"{where}: not printed: {missing}\nprinted was:\n{printed}"


def test_the_runner_can_fail():
    assert lacking("a 1\nb ...\n", "a 1\nb 2\n") == []
    assert lacking("b\na\n", "a\nb\n") == ["a"]
    assert lacking("top-1 98.333\n", "top-1 98.334\n") == ["top-1 98.333"]
    assert lacking("speed 1.0 images/s\n", "speed 2.5 images/s\n") == []


@pytest.mark.parametrize(("page", "block"), SHOWN, ids=lambda v: v if isinstance(v, str) else str(v.line))
def test_commands_on_the_readers_own_files_have_flags_that_exist(page, block, checkout):
    for command in block.commands():
        words = shlex.split(command)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
            continue
        if words[0] == "python":
            assert (ROOT / words[1]).is_file()
            words[:2] = ["paddle-cait", words[1].removeprefix("tools/").removesuffix(".py")]
        assert words[0] == "paddle-cait", command
        parser = argparse.ArgumentParser(exit_on_error=False)
        importlib.import_module(f"paddle_cait.cli.{VERBS[words[1]][0]}").add_arguments(parser)
        parse(parser, words[2:])
