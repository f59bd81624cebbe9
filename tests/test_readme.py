"""The README says what the code says."""

import re

from helpers import ROOT

from paddle_cait.cli.main import VERBS
from paddle_cait.layers.pos_embed import RULES
from paddle_cait.presets import get_preset, list_presets

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_and_every_verb_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make (\w+)", README, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target
    assert "make demo" in README and "make test" in README
    assert set(re.findall(r"\$ paddle-cait (\w+)", README)) <= set(VERBS)


def test_every_family_stands_in_the_table():
    rows = re.findall(r"^\| `(\w+)` \|", README, re.M)
    assert set(rows) == {p.family for p in list_presets()}


def test_every_model_it_names_is_a_preset():
    named = set(re.findall(r'(?:create_model|eval_transform|get_preset)\("([\w.]+)"', README))
    assert len(named) >= 4
    for name in named:
        assert get_preset(name)


def test_every_rule_and_config_it_names_exists():
    rules = re.search(r"`resample=` chooses another: (.*?)\. A ", README, re.S).group(1)
    assert re.findall(r"`(\w+)`", rules) == list(RULES)
    for config in re.findall(r"-c (configs/\S+)", README):
        assert (ROOT / config).is_file()


def test_export_is_a_function_whatever_was_imported_before():
    """A folder of the package with a public function's name would hide it."""
    import paddle_cait as pc
    import paddle_cait.deploy.exporter

    for name in pc.__all__:
        assert isinstance(getattr(pc, name), type(pc)) == (name == "explain"), name  # the one room that is public
