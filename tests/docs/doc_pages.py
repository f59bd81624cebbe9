"""Reading the pages, and doing what they show: commands, programs, and the output below them.

``python tests/docs/doc_pages.py`` lists the links that lead out of the repository; nothing fetches them.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paddle_cait.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

# What differs from run to run, from machine to machine, and between versions.
VOLATILE = (
    (r"\d+(\.\d+)? images/s", "N images/s"),
    (r"\| \d+\.\d \|$", "| N |"),  # the same in a suite's last column
    (r"in \d+\.\d s\b", "in N s"),
    (r"\b(Python|Paddle|paddlepaddle|numpy) \d+\.\d+\.\d+", r"\1 N"),
    (r"\d+ threads?\b", "N threads"),
    (r"\(at byte \d+\)", "(at byte N)"),
    (r"on \w+ (x86_64|aarch64|arm64)", "on MACHINE"),
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``text`` ends in a newline."""

    kind: str
    text: str
    line: int

    def commands(self) -> list[str]:
        """The commands of a shell block, one a line, ``$ `` and line breaks taken away."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.removeprefix("$ ") for line in lines if line.strip()]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\S*)\n(.*?)^```$", text, re.M | re.S)
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in found]


def steps(page: Path) -> Iterator[tuple[Block, str | None]]:
    """What is to be done (``bash`` and ``python`` blocks), with the output that the page shows right below it."""
    every = blocks(page)
    for block, following in zip(every, [*every[1:], None]):
        if block.kind in ("bash", "python"):
            shown = following is not None and following.kind == "text"
            yield block, following.text if shown else None


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
    if command.startswith("paddle-cait "):
        words = shlex.split(command)[1:]
        if words[0] == "eval":
            words += ["--workers", "0"]  # the counts do not depend on it, the seconds of these tests do
        return main(words)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    printed.write(done.stdout + done.stderr)
    return done.returncode


def expected_status(shown: str | None) -> int:
    """The exit status of the last command of a block above this output."""
    if shown and re.search(r"^paddle-cait \w+: error:", shown, re.M):
        return 2
    return 1 if shown and re.search(r"^FAIL:", shown, re.M) else 0


def lacking(shown: str, printed: str) -> list[str]:
    """The lines of ``shown`` that were not printed, in this order; ``...`` at a line's end stands for its rest."""
    have = [settled(line) for line in printed.splitlines()]
    missing = []
    for line in filter(str.strip, shown.splitlines()):
        wanted = settled(line)
        cut = wanted.endswith("...")
        place = next((i for i, one in enumerate(have) if one == wanted or (cut and one.startswith(wanted[:-3]))), None)
        if place is None:
            missing.append(line)
        else:
            del have[: place + 1]
    return missing


def settled(line: str) -> str:
    for pattern, instead in VOLATILE:
        line = re.sub(pattern, instead, line.rstrip())
    return line


def external_links() -> list[str]:
    """Every address on the pages, sorted."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*DOCS.rglob("*.md"), ROOT / "CONTRIBUTING.md"])
    return sorted(set(re.findall(r"https?://[\w-]+\.[\w.-]*\w/[\w./#%~-]*\w", text)))


if __name__ == "__main__":
    print("\n".join(external_links()))
