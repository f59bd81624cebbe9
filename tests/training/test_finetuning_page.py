"""docs/finetuning.md: the flags, defaults and columns that it names are the code's.

Its commands and programs run in tests/docs/test_pages.py.
"""

import argparse
import dataclasses
import importlib
import re
from fractions import Fraction

from helpers import ROOT

import paddle_cait as pc
from paddle_cait.training.history import COLUMNS

PAGE = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")


def flags_of(verb):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"paddle_cait.cli.{verb}").add_arguments(parser)
    return set(parser._option_string_actions)


def test_its_flags_exist():
    table = PAGE[PAGE.index("| PaddleClas | here |") :].partition("\n\n")[0]
    here = {flag for row in table.splitlines() for flag in re.findall(r"`(--[a-z-]+)", row.split(" | ")[1])}
    assert len(here) > 15 and here <= flags_of("finetune")


def test_its_defaults_are_the_recipes():
    recipe = pc.Recipe()
    fields = {**vars(recipe), **vars(recipe.augmentation), **vars(recipe.mixup)}
    own = {"mixup_prob": "prob", "mixup_switch_prob": "switch_prob", "mixup_mode": "mode", "cutmix_minmax": "minmax"}
    told = {}
    for flags, values in re.findall(r"^\| (`--.*?) \| (.*?) \| ", PAGE.replace("\\|", "/"), re.M):
        names = [name.replace("-", "_") for name in re.findall(r"`-+([a-z-]+)", flags)]
        told.update(zip(names, re.split("[,;] ", values)))
    told = {f"distillation_{name}" if name in ("alpha", "tau") else name: text for name, text in told.items() if text}
    for name, text in told.items():
        assert says(text, fields[own.get(name, name)]), f"{name}: {text}"
    lacking = {field.name for field in dataclasses.fields(pc.Recipe)} - set(told)
    assert lacking == {"lr", "tune", "seed", "augmentation", "checkpoint_updates"}


def says(text, value):
    if value is None or isinstance(value, bool):
        return text == "true" if value else text in ("off", "none")
    if isinstance(value, tuple):
        return all(says(*both) for both in zip(text.split(), value))
    return text == value if isinstance(value, str) else float(Fraction(text)) == value


def test_its_columns_are_the_logs():
    paragraph = re.search(r"^`log.csv`: (.*?)\n\n", PAGE, re.M | re.S).group(1)
    assert tuple(re.findall(r"`(\w+)`", paragraph)) == COLUMNS
