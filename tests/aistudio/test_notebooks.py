"""The notebooks run from the first cell to the last, show what they print, and name nothing of one machine."""

import argparse
import importlib
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

import pytest

from paddle_cait.cli.main import VERBS

sys.path.insert(0, str(Path(__file__).parent))

import notebooks as nb

EACH = pytest.mark.parametrize("path", nb.NOTEBOOKS, ids=lambda path: path.stem)

# Stored lines that must be printed again, on any machine and by any version of Paddle: counts and verdicts, what a file
# is, what loading did. Not the counts of a training, whose rounding differs between versions. Nor that the resumed one
# has the same bits: a part of it runs in this process, where Paddle came before MKL_DEBUG_CPU_TYPE was set.
LASTING = {
    "1_validate": r"PASS|FAIL|  (top-[15]|layout|known as|fits) |.*: \d+ tensors loaded|digit_",
    "2_finetune": r"class |even |odd |all ",
    "3_export": r"PASS|  top-[15] |photographs/|类别",
    "4_attention": r"(?!设备|note: )",
    "5_models": r"(?!设备)",
}

# Here a shorter training will do.
SHORTER = ("epochs: 8\n", "epochs: 2\n")


@pytest.fixture
def as_opened(tmp_path, monkeypatch):
    """The folder, paths and environment as Jupyter gives them; all as before at the end."""
    before, paths = dict(os.environ), list(sys.path)
    monkeypatch.chdir(nb.FOLDER)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    os.environ["MPLBACKEND"] = "agg"
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.clear()
    os.environ.update(before)
    sys.path[:] = paths


@EACH
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Paddle 2.6's paddle.save and NumPy's word to it
def test_every_cell_runs_in_order(path, as_opened):
    pytest.importorskip("matplotlib", reason="a notebook draws: extra test, which make test installs")
    pytest.importorskip("scipy", reason="a notebook fits a linear probe: extra test, which make test installs")
    lists_before = [sorted(folder.iterdir()) for folder in (nb.FOLDER, nb.ROOT / "pretrained", nb.ROOT)]
    names = {"__name__": "__main__"}
    for number, cell in enumerate(nb.code_cells(path), 1):
        where = f"{path.name}, code cell {number}"
        printed, statuses = nb.run_cell(nb.source(cell).replace(*SHORTER), names, where)
        stored = nb.stored_text(cell)
        assert statuses in ([], [1 if re.search("^FAIL: ", stored, re.M) else 0]), f"{where}: {statuses}\n{printed}"
        lasting = [line for line in stored.splitlines() if re.match(LASTING[path.stem], line)]
        missing = [line for line in lasting if line not in printed]
        assert not missing, f"{where}: stored but not printed: {missing}; printed:\n{printed}"
    import matplotlib.pyplot as plt

    plt.close("all")
    assert lists_before == [sorted(folder.iterdir()) for folder in (nb.FOLDER, nb.ROOT / "pretrained", nb.ROOT)]


@EACH
def test_form(path):
    """Notebook format 4, executed once from top to bottom, without errors and standard error."""
    book = nb.read(path)
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert 10 <= len(book["cells"]) <= 22
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    cells = nb.code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} == {"stdout"}
    assert len(outputs) > len(cells) / 2


@EACH
def test_nothing_of_one_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<!/home/aistudio)/work/|/tmp/|/root|/home/(?!aistudio)|/Users/|venvs|site-packages", text)
    told = "".join(map(nb.stored_text, nb.code_cells(path)))
    assert not re.search(r"\x1b|\r|\d%\|", told), "a progress bar or colours: python tests/aistudio/notebooks.py"
    assert "ccache" not in told and "Warning" not in told


def test_the_training_is_shorter_here():
    assert sum(SHORTER[0] in nb.source(cell) for cell in nb.code_cells(nb.FOLDER / "2_finetune.ipynb")) == 1


def test_they_are_small():
    assert sum(path.stat().st_size for path in nb.NOTEBOOKS) < 1.5e6


def test_they_begin_alike_and_mark_what_to_change():
    assert len(nb.NOTEBOOKS) == 5
    first = {tuple(nb.source(cell) for cell in nb.code_cells(path)[:2]) for path in nb.NOTEBOOKS}
    assert len(first) == 1
    for path in nb.NOTEBOOKS:
        assert sum("← 改这里" in nb.source(cell) for cell in nb.code_cells(path)) >= 2, path.name


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise AssertionError(message)


@EACH
def test_commands_have_flags_that_exist(path):
    """Also those in the text, which are not run; what they lack is told by the ones that are."""
    commands = nb.commands(path)
    assert commands
    for command in commands:
        words = shlex.split(command)[3:]
        parser = Parser(allow_abbrev=False)
        importlib.import_module(f"paddle_cait.cli.{VERBS[words[0]][0]}").add_arguments(parser)
        parser.parse_args(words[1:])


def test_readme_names_every_notebook_and_links_exist():
    readme = (nb.FOLDER / "README.md").read_text(encoding="utf-8")
    for path in nb.NOTEBOOKS:
        assert f"({path.name})" in readme
    pages = [readme] + ["".join(map(nb.source, nb.read(path)["cells"])) for path in nb.NOTEBOOKS]
    links = {link for page in pages for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page)}
    missing = [link for link in links if not link.startswith("http") and not (nb.FOLDER / link).exists()]
    assert not missing


def test_the_reader_of_cells():
    cell = "a = 1\n!x --flag {a} \\\n    y\nb = 2\n"
    assert list(nb.steps(cell)) == [("python", "a = 1\n"), ("shell", "x --flag {a}      y"), ("python", "\nb = 2\n")]
    assert nb.shown("eval:  5%|█| 1/2 [0:00<0:00]\reval: 100%|██| 2/2 [0:00<0:00]\r\ntop-1 98\r\n") == "top-1 98\n"
    assert nb.shown("eval:  5%|█| 1/2 [0:00<0:00]\rnote: odd\nend\n") == "note: odd\nend\n"
    printed, statuses = nb.run_cell("a = 3\n!echo {a}; exit 4\nprint(a)\n", {}, "here")
    assert (printed, statuses) == ("3\n3\n", [4])
