"""The notebooks of docs/aistudio: reading, running without Jupyter, and storing what they give.

``python tests/aistudio/notebooks.py [NAME ...]`` runs them with nbclient and ipykernel, and stores their outputs.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "aistudio"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
COMMAND = "python -m paddle_cait "


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def stored_text(cell: dict[str, Any]) -> str:
    """What the cell printed when its outputs were stored."""
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def steps(text: str) -> Iterator[tuple[str, str]]:
    """A cell in pieces: ("python", program) and ("shell", command), line breaks of a command taken away."""
    for piece in re.split(r"(?m)^(!(?:.*\\\n)*.*)$", text):
        if piece.startswith("!"):
            yield "shell", piece[1:].replace("\\\n", " ")
        elif piece.strip():
            yield "python", piece


def commands(path: Path) -> list[str]:
    """Every command of this package that a notebook runs or tells of."""
    found = []
    for cell in read(path)["cells"]:
        text = source(cell).replace("\\\n", " ")
        found += re.findall(rf"{COMMAND}[^`\n]+", text)
    return found


def run_cell(text: str, names: dict[str, Any], where: str) -> tuple[str, list[int]]:
    """Run a code cell as Jupyter would, {NAME} filled in: (what it printed, the exit statuses of its commands)."""
    printed, statuses = io.StringIO(), []
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        for kind, piece in steps(text):
            if kind == "python":
                exec(compile(piece, where, "exec"), names)
            else:
                command = re.sub(r"\{(\w+)\}", lambda found: str(names[found[1]]), piece)
                statuses.append(run_command(command, printed))
    return printed.getvalue(), statuses


def run_command(command: str, printed: io.StringIO) -> int:
    if command.startswith(COMMAND):
        from paddle_cait.cli.main import main

        words = shlex.split(command.removeprefix(COMMAND))
        return main([*words, "--workers", "0"] if words[0] == "eval" else words)  # saves the seconds of starting them
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    printed.write(done.stdout + done.stderr)
    return done.returncode


def store_outputs(path: Path) -> None:
    """Run a notebook in Jupyter's kernel, and keep what it gave."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=300, kernel_name="python3", record_timing=False).execute(cwd=str(path.parent))
    data = json.loads(nbformat.writes(book))
    data["metadata"] = read(path)["metadata"]  # not this machine's versions
    for cell in data["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            cell["outputs"] = [*printed_outputs(cell["outputs"]), *pictures(cell["outputs"])]
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def printed_outputs(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a cell printed, as one output: the kernel sends it in pieces, cut where time ran out."""
    text = shown("".join("".join(output.get("text", "")) for output in outputs))
    return [{"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}] if text else []


def shown(text: str) -> str:
    """What is left on the screen, without progress bars."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        parts = re.split(r"\r|\x1b\[A", line)  # each written over the one before
        left = [part for part in parts if part.strip() and not re.search(r"\d%\|", part)]
        if left or not line.strip():
            lines.append(left[-1] if left else "")
    return "\n".join(lines).strip("\n") + "\n" if any(lines) else ""


def pictures(outputs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Outputs that are no text; a picture as PNG or as JPEG, whichever is smaller."""
    for output in outputs:
        if "data" in output:
            data = output["data"]
            if "image/png" in data:
                png = base64.b64decode("".join(data["image/png"]))
                jpeg = as_jpeg(png)
                data.pop("image/jpeg", None)
                if len(jpeg) < len(png):
                    del data["image/png"]
                    data["image/jpeg"] = base64.b64encode(jpeg).decode("ascii")
            yield {**output, "metadata": {}}


def as_jpeg(png: bytes) -> bytes:
    from PIL import Image

    packed = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(packed, "JPEG", quality=88)
    return packed.getvalue()


if __name__ == "__main__":
    for notebook in NOTEBOOKS:
        if len(sys.argv) == 1 or notebook.stem in sys.argv[1:]:
            store_outputs(notebook)
            print(notebook.name, f"{notebook.stat().st_size / 1e3:.0f} kB")
