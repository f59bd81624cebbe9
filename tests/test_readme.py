"""The README says what the code says."""

import re

from helpers import ROOT

from paddle_cait.cli.main import VERBS
from paddle_cait.presets import list_presets

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_and_every_verb_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make (\w+)", README, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target
    assert "make demo" in README and "make test" in README
    assert set(re.findall(r"\$ paddle-cait (\w+)", README)) <= set(VERBS)


def test_the_published_table_is_the_presets():
    found = [line for line in README.splitlines() if line.startswith("| `cait_")]
    expected = [
        f"| `{p.name}` | {p.num_params:,} | {p.preprocess.img_size} | {p.published.top1:.3f} | {p.published.top5:.3f} "
        f"| `{p.checkpoint.filename}` |"
        for p in list_presets()
        if p.collection == "cait"
    ]
    assert found == expected
