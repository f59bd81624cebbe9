"""The pages' commands and programs do what stands below them; commands on files that a reader has are parsed, and run
on tiny ones. What needs more than `make test` installs runs in tests/oracles/test_docs.py."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from doc_pages import DOCS, LIGHT, PAGES, ROOT, blocks, lacking, needs, run_command, same, walk
from stand_ins import brought_down, draw, film, lay_out, link_checkout, require

from paddle_cait.cli.common import parse
from paddle_cait.cli.main import VERBS

CODE = [page for page in PAGES if {block.kind for block in blocks(page)} - {"text", "{toctree}"}]
SHOWN = [(page, block) for page in PAGES for block in blocks(page) if block.kind == "console"]
STOOD_IN = [(page, block) for page, block in SHOWN if not block.heavy and not block.parsed_only]
KINDS = {"bash", "python", "text", "console", "yaml", "{toctree}", "{eval-rst}", "{include} ../CONTRIBUTING.md"}


def name_of(value):
    return value.relative_to(ROOT).with_suffix("").as_posix() if isinstance(value, Path) else str(value.line)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    link_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Paddle 2.6's paddle.save and NumPy's word to it
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # paddle.Model of Paddle 3.3 does that itself
@pytest.mark.parametrize("page", CODE, ids=name_of)
def test_what_it_shows(page, checkout):
    """One block after the other, in one folder, as a reader does."""
    require(needs(page, heavy=False))
    if page.name == "README.md" and page.parent == ROOT:
        draw(checkout)
    walk(page)


def test_the_runner_can_fail():
    assert lacking("a 1\nb ...\n", "a 1\nb 2\n") == []
    assert lacking("b\na\n", "a\nb\n") == ["a"]
    assert lacking("top-1 98.333\n", "top-1 98.334\n") == ["top-1 98.333"]
    assert lacking("speed 1.0 images/s\n", "speed 2.5 images/s\n") == []
    assert same("top-1  97.22 (70/72)", "top-1 100.00 (72/72)", 10) and same("by 1e-7; a...", "by 3e-08; and", 10)
    assert same("by 1e-6", "by 4e-6", 1) and not same("by 1e-6", "by 1e-4", 1)
    assert not same("top-1 97.22 (70/72)", "top-1 50.00 (36/72)", 10) and not same("a 1", "b 1", 10)


@pytest.mark.parametrize(("page", "block"), SHOWN, ids=name_of)
def test_commands_on_the_readers_own_files_have_flags_that_exist(page, block, checkout):
    for command in block.commands():
        words = shlex.split(command, comments=True)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
            continue
        if words[:2] in (["pip", "install"], ["!pip", "install"]):
            check_pip(command.removeprefix("!"))
            continue
        if words[0] == "python":
            assert (ROOT / words[1]).is_file()
            words[:2] = ["paddle-cait", words[1].removeprefix("tools/").removesuffix(".py")]
        assert words[0] == "paddle-cait", command
        parser = argparse.ArgumentParser(exit_on_error=False)
        importlib.import_module(f"paddle_cait.cli.{VERBS[words[1]][0]}").add_arguments(parser)
        parse(parser, words[2:])


# pip is a function here that prints its words, one a line, before anything of a page is read: nothing is installed.
PRINT_WORDS = """
set -eu
pip() { printf '%s\\n' "$@"; }
python() { "$REAL_PYTHON" "$@"; }
"""
PARSE = "import sys; from pip._internal import commands; commands.create_command('install').parse_args(sys.argv[2:])"


def check_pip(command):
    """The words as the shell gives them, through pip's own parser; pip itself is never run."""
    shell = ["bash", "-c", PRINT_WORDS + command]
    found = subprocess.run(shell, capture_output=True, text=True, check=True, env={"REAL_PYTHON": sys.executable})
    words = found.stdout.split()
    parsed = subprocess.run([sys.executable, "-c", PARSE, *words], capture_output=True, text=True)
    assert parsed.returncode == 0, parsed.stderr
    assert f"numpy=={np.__version__}" in words or not any(word.startswith("numpy") for word in words)
    extras = re.findall(r'^        "(\w+)": \[', (ROOT / "setup.py").read_text(), re.M)
    assert all(set(found.split(",")) <= set(extras) for found in re.findall(r"paddle_cait\[([\w,]+)\]", command))


@pytest.mark.parametrize(("page", "block"), STOOD_IN, ids=name_of)
def test_commands_on_the_readers_own_files_run_on_tiny_ones(page, block, checkout, capsys):
    require(block.needs)
    lay_out(checkout)
    if "walk.mp4" in block.text:
        film(checkout / "walk.mp4")
    for command in brought_down(block):
        assert run_command(command, sys.stdout) == 0, (command, capsys.readouterr())


def test_every_block_is_run_parsed_or_shown():
    """No fence that the reading of pages does not see, no kind that no test knows."""
    for page in PAGES:
        found, text = blocks(page), page.read_text(encoding="utf-8")
        assert len(re.findall(r"^\s*```", text, re.M)) == 2 * len(found), page.name
        assert {block.kind for block in found} <= KINDS, page.name
        comments = re.findall(r"^<!-- (?:needs|numbers|parsed).*\n(?!```|<!-- )", text, re.M)
        assert not comments, f"{page.name}: not above a block: {comments}"


@pytest.mark.parametrize("page", CODE, ids=name_of)
def test_what_cannot_be_run_can_be_parsed(page):
    for block in blocks(page):
        if block.kind == "python":
            compile(block.text, f"{page}:{block.line}", "exec")
        elif block.kind == "yaml":
            assert yaml.safe_load(block.text)


def test_flags_in_the_text_exist():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for verb, words in re.findall(r"`(?:paddle-cait|python -m paddle_cait) (\w+) ([^`]*)`", text):
            parser = argparse.ArgumentParser()
            importlib.import_module(f"paddle_cait.cli.{VERBS[verb][0]}").add_arguments(parser)
            assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", words)) <= set(parser._option_string_actions), (page, words)


def test_the_served_model_has_one_name():
    """PaddleX finds the model of exporting's pipeline by this name in its inference.yml."""
    program, pipeline, binding = (
        block for block in blocks(DOCS / "exporting.md") if "cait_xxs24_224" in block.text and block.kind != "console"
    )
    served = yaml.safe_load(pipeline.text)["SubModules"]["ImageClassification"]["model_name"]
    assert re.search(r'entities = \["(\w+)"\]', program.text)[1] == served
    assert re.search(r'"paddle_static": \["(\w+)"\]', binding.text)[1] == served


def test_light_packages_are_those_of_make_test():
    extras = (ROOT / "setup.py").read_text()
    told = re.search(r'"test": \[(.*?)\]', extras)[1] + re.search(r"install_requires=\[(.*?)\]", extras)[1]
    assert all(f'"{ {"cv2": "opencv-python"}.get(name, name) }"' in told for name in LIGHT)
