"""Reading the pages, and doing what they show: commands, programs, and the output below them.

``bash`` and ``python`` blocks are run in order, a ``text`` block right below holds what they print; ``console`` blocks
are commands on a reader's own files, and run on tiny ones (``stand_ins.py``). Comments right above a block say more:

- ``<!-- needs: onnx openvino -->``: these packages, beyond what the library itself requires;
- ``<!-- numbers within 10 -->``: its numbers may differ by so much from those shown, since a training's do;
- ``<!-- parsed only: REASON -->``: it cannot be run here.

``python tests/docs/doc_pages.py`` lists the links that lead out of the repository; nothing fetches them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddle_cait.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])  # README_zh.md has the same blocks: test_readme_zh.py

# What differs from run to run, from machine to machine, and between versions.
VOLATILE = (
    (r"\d+(\.\d+)? images/s", "N images/s"),
    (r"\| \d+\.\d \|$", "| N |"),  # the same in a suite's last column
    (r"in \d+\.\d s\b", "in N s"),
    (r"\b(Python|Paddle|paddlepaddle|numpy) \d+\.\d+\.\d+", r"\1 N"),
    (r"\d+ threads?\b", "N threads"),
    (r"\(at byte \d+\)", "(at byte N)"),
    (r"on \w+ (x86_64|aarch64|arm64)", "on MACHINE"),
    (r"inference\.(json|pdmodel) *", "inference.MODEL "),  # Paddle 3's name and 2.6's
)
NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
LIGHT = {"matplotlib", "scipy", "cv2"}  # what a block may need in `make test`; the rest runs in `make oracles`


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``text`` ends in a newline."""

    kind: str
    text: str
    line: int
    needs: tuple[str, ...] = ()
    within: float = 0.0
    parsed_only: str = ""

    @property
    def heavy(self) -> bool:
        return not LIGHT.issuperset(self.needs)

    def commands(self) -> list[str]:
        """The commands of a shell block, one a line, ``$ `` and line breaks taken away."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.removeprefix("$ ") for line in lines if line.strip()]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^((?:<!-- .* -->\n)*)```(.*)\n((?s:.*?))^```$", text, re.M)
    return [Block(m[2].strip(), m[3], text.count("\n", 0, m.start(2)) + 1, **_told(m[1])) for m in found]


def _told(comments: str) -> dict[str, Any]:
    """The fields of a block that the comments above it set."""
    told: dict[str, Any] = {}
    for comment in re.findall(r"^<!-- (.*) -->$", comments, re.M):
        if found := re.fullmatch(r"needs: ([\w ]+)", comment):
            told["needs"] = tuple(found[1].split())
        elif found := re.fullmatch(r"numbers within (\d+)", comment):
            told["within"] = float(found[1])
        elif found := re.fullmatch(r"parsed only: (.+)", comment):
            told["parsed_only"] = found[1]
    return told


def steps(page: Path) -> Iterator[tuple[Block, str | None]]:
    """What is to be done (``bash`` and ``python`` blocks), with the output that the page shows right below it."""
    every = blocks(page)
    for block, following in zip(every, [*every[1:], None]):
        if block.kind in ("bash", "python") and not block.parsed_only:
            shown = following is not None and following.kind == "text"
            yield block, following.text if shown else None


def needs(page: Path, heavy: bool) -> set[str]:
    """The packages that its blocks need: of the light ones, or of all."""
    return {name for block in blocks(page) if heavy or not block.heavy for name in block.needs}


def walk(page: Path, heavy: bool = False) -> None:
    """Do one block after the other in the current folder, as a reader does, and compare what each prints."""
    for block, shown in steps(page):
        if block.heavy and not heavy:
            continue
        where = f"{page.relative_to(ROOT)}:{block.line}"
        printed, statuses = do(block, where)
        assert all(status == 0 for status in statuses[:-1]), f"{where}: {statuses}\n{printed}"
        assert not statuses or statuses[-1] == expected_status(shown), f"{where}: {statuses}\n{printed}"
        missing = lacking(shown or "", printed, block.within)
        assert not missing, f"{where}: not printed: {missing}\nprinted was:\n{printed}"


def do(block: Block, where: str) -> tuple[str, list[int]]:
    """Run a block in the current folder: (what it printed, the exit statuses of its commands)."""
    printed = io.StringIO()
    statuses = []
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        if block.kind == "python":
            exec(compile(block.text, where, "exec"), {"__name__": "__main__"})
        else:
            for command in block.commands():
                statuses.append(run_command(command, printed))
    return printed.getvalue(), statuses


def run_command(command: str, printed: io.StringIO) -> int:
    command = re.sub(r"^python tools/(\w+)\.py", r"paddle-cait \1", command)
    if command.startswith("paddle-cait "):
        words = shlex.split(command, comments=True)[1:]
        if words[0] == "finetune":  # Paddle trains twice as fast where `runtime.prepare` comes before it
            return run_process([sys.executable, "-m", "paddle_cait", *words], printed)
        if words[0] == "eval":
            words += ["--workers", "0"]  # the counts do not depend on it, the seconds of these tests do
        with notes_to(printed):
            return main(words)
    assert not re.search(r"\b(pip|apt|apt-get|conda)\b", command), f"would change this machine: {command}"
    return run_process(["bash", "-c", command], printed)


def run_process(command: list[str], printed: io.StringIO) -> int:
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)
    printed.write(done.stdout)
    return done.returncode


@contextlib.contextmanager
def notes_to(printed: io.StringIO) -> Iterator[None]:
    """A command writes them to standard error, unless somebody (pytest does) handles records already."""
    handler = logging.StreamHandler(printed)
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    logging.getLogger("paddle_cait").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("paddle_cait").removeHandler(handler)


def expected_status(shown: str | None) -> int:
    """The exit status of the last command of a block above this output."""
    if shown and re.search(r"^paddle-cait \w+: error:", shown, re.M):
        return 2
    return 1 if shown and re.search(r"^FAIL:", shown, re.M) else 0


def lacking(shown: str, printed: str, within: float = 0.0) -> list[str]:
    """The lines of ``shown`` that were not printed, in this order; ``...`` at a line's end stands for its rest.

    ``within``: numbers may differ by so much, at most by ten times themselves (and the spaces that align them).
    """
    have = [settled(line) for line in printed.splitlines()]
    missing = []
    for line in filter(str.strip, shown.splitlines()):
        wanted = settled(line)
        place = next((i for i, one in enumerate(have) if same(wanted, one, within)), None)
        if place is None:
            missing.append(line)
        else:
            del have[: place + 1]
    return missing


def same(wanted: str, have: str, within: float) -> bool:
    begins = wanted.removesuffix("...")
    if not within:
        return have.startswith(begins) if begins != wanted else have == wanted
    words = [r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in re.split(NUMBER, begins)]
    pattern = f"({NUMBER})".join(words) + (".*" if begins != wanted else "")
    found = re.fullmatch(pattern, have)
    numbers = zip(re.findall(NUMBER, begins), found.groups()) if found else []
    return found is not None and all(_near(float(a), float(b), within) for a, b in numbers)


def _near(wanted: float, have: float, within: float) -> bool:
    """A rounding error of 1e-6 must not become one of 1e-4, however far percentages may go apart."""
    return abs(wanted - have) <= min(within, 10 * abs(wanted) or within)


def settled(line: str) -> str:
    for pattern, instead in VOLATILE:
        line = re.sub(pattern, instead, line.rstrip())
    return line


def external_links() -> list[str]:
    """Every address on the pages, sorted."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*PAGES, ROOT / "CONTRIBUTING.md"])
    return sorted(set(re.findall(r"https?://[\w-]+\.[\w.-]*\w/[\w./#%~-]*\w", text)))


if __name__ == "__main__":
    print("\n".join(external_links()))
