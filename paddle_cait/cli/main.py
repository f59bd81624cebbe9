"""``paddle-cait VERB``: finds the verb's module, parses its flags, turns errors into one line."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from paddle_cait.cli.common import parse
from paddle_cait.errors import PaddleCaitError
from paddle_cait.versions import __version__

# verb -> (module, one line of help). A module is imported only when its verb is used.
VERBS = {
    "list": ("list", "show the presets: sizes, published accuracies, licences"),
    "download": ("download", "fetch the authors' checkpoint of a preset, checked"),
    "convert": ("convert", "import an official checkpoint, or write one back, without PyTorch"),
    "eval": ("eval", "measure a checkpoint's accuracy and judge it against the published one"),
    "split": ("split", "make training and validation lists from class folders"),
    "finetune": ("finetune", "train a checkpoint on your own photographs"),
    "export": ("export", "write a verified inference model: Paddle Inference, ONNX, OpenVINO"),
    "predict": ("predict", "name what is in photographs, in the fastest runtime installed"),
    "explain": ("explain", "draw what a model looks at, in photographs or in a video"),
    "app": ("app", "a page to explore what a model looks at"),
    "bench": ("bench", "time every engine against timm's, in one fair run"),
    "completion": ("completion", "print a script that completes these commands in bash, zsh or fish"),
    "doctor": ("doctor", "check this installation and machine, line by line"),
    "demo": ("demo", "import and verify the bundled checkpoint, in under a minute"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 fine, 1 a verdict of FAIL, 2 a mistake in the input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"paddle-cait {__version__}")
        return 0
    if argv[0] not in VERBS:
        print(f"paddle-cait: error: unknown verb {argv[0]!r}, expected one of: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    return run_verb(argv[0], argv[1:])


def run_verb(verb: str, argv: Sequence[str] | None = None) -> int:
    """Run one verb with its own arguments (what ``tools/VERB.py`` does)."""
    module: Any = importlib.import_module(f"paddle_cait.cli.{VERBS[verb][0]}")
    parser = _Parser(
        prog=f"paddle-cait {verb}",
        description=module.__doc__,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    logging.basicConfig(format="note: %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("paddle_cait").setLevel(logging.INFO)  # Paddle 2.6 raises the root's level
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells what matplotlib asks of it for a PDF
    try:
        return int(module.run(parse(parser, argv)))
    except PaddleCaitError as error:
        print(f"paddle-cait {verb}: error: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"paddle-cait {verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` closed the other end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Parser(argparse.ArgumentParser):
    """A wrong flag is one line, without the list of all flags."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _one_line(message: str, most: int = 700) -> str:
    """What matters stands first; the exception itself holds the whole list of tensors."""
    line = " ".join(message.split())
    return line if len(line) <= most else f"{line[:most]} ... (and {len(line) - most} characters more)"


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {line}" for verb, (_, line) in VERBS.items())
    return (
        "usage: paddle-cait VERB [flags]\n\n"
        "Image transformers for PaddlePaddle: exact ports, safe imports, verified numbers, fast exports.\n\n"
        f"{verbs}\n\n`paddle-cait VERB --help` shows a verb's flags and an example."
    )
