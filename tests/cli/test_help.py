"""What ``--help`` says of defaults is so, where the defaults stand elsewhere than in the parser."""

import argparse
import dataclasses
import re

from paddle_cait.cli import finetune
from paddle_cait.training.recipe import Recipe

FIELD = {"cutmix_minmax": "minmax", "mixup_prob": "prob", "mixup_switch_prob": "switch_prob", "mixup_mode": "mode"}
SAID_OTHERWISE = {"lr", "layer_decay", "cutmix_minmax"}  # None, and what that means stands in the sentence


def _said(value):
    if isinstance(value, tuple):
        return " ".join(map(_said, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def test_of_a_recipe():
    recipe = Recipe()
    records = (recipe, recipe.augmentation, recipe.mixup)
    values = {field.name: getattr(one, field.name) for one in reversed(records) for field in dataclasses.fields(one)}
    values["mixup"] = recipe.mixup.mixup  # a field of both
    parser = argparse.ArgumentParser()
    finetune.add_arguments(parser)
    looked = set()
    for action in parser._actions:
        name = FIELD.get(action.dest, action.dest)
        if name in values and action.nargs != 0 and action.dest not in SAID_OTHERWISE:
            assert action.default is None, f"{action.dest}: a YAML file could not change it"
            assert re.search(r"\(([^():]*)[^()]*\)$", action.help)[1] == _said(values[name]), action.dest
            looked.add(action.dest)
    assert {"epochs", "recount", "mixup", "mixup_mode", "distillation_tau", "seed"} <= looked
