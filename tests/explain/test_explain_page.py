"""docs/explain.md: its commands and its program run as they stand, its table is the code's, its pictures are there."""

import argparse
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
from helpers import ROOT

from paddle_cait.cli.main import VERBS, main
from paddle_cait.explain.catalogue import METHODS

PAGE = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
PROGRAM, SERVED = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("paddle-cait")
]
BUNDLED = [line for line in COMMANDS if "pretrained/" in line and line.split()[1] == "explain"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in ("pretrained", "configs", "docs"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_has_flags_that_exist(line):
    verb, *words = shlex.split(line)[1:]
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(f"paddle_cait.cli.{VERBS[verb][0]}").add_arguments(parser)
    parser.parse_args(words)


@pytest.mark.parametrize("line", BUNDLED)
def test_commands_on_bundled_files_draw_their_pictures(checkout, capsys, line):
    assert main(shlex.split(line)[1:]) == 0
    files = capsys.readouterr().out.split()
    assert files and all((checkout / name).stat().st_size > 500 for name in files)


def test_the_program(checkout, capsys):
    found = {}
    exec(compile(PROGRAM, "docs/explain.md", "exec"), found)
    lines = capsys.readouterr().out.splitlines()
    shapes = re.search(r"# (blocks\.0\.attn \[.*?\]) \.\.\. (\S+ \[.*?\])", PROGRAM)
    assert (lines[0], lines[-1]) == shapes.groups()
    for name, shape in re.findall(
        r"^(\w+) = pc\.explain.*# .*?\[B, (12, 12|heads, 12, 12|layers, heads)\]", PROGRAM, re.M
    ):
        assert list(found[name].shape[1:]) == [{"heads": 4, "layers": 6}.get(n) or int(n) for n in shape.split(", ")]
    assert len(re.findall(r"pc\.explain\.", PROGRAM)) == 5


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
