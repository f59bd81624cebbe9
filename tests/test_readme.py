"""The README says what the code says."""

import re

from helpers import ROOT

from paddle_cait.cli.main import VERBS
from paddle_cait.presets import get_preset

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_and_every_verb_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^\$ make (\w+)", README, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target
    assert "$ make demo" in README and "$ make test" in README
    assert set(re.findall(r"^(?:\$ )?paddle-cait (\w+)", README, re.M)) <= set(VERBS)


def test_every_model_it_names_is_a_preset():
    named = set(re.findall(r'(?:create_model|eval_transform|get_preset)\("([\w.]+)"|--model (\w+)', README))
    assert len(named) >= 6
    for name in named:
        assert get_preset("".join(name))


def test_what_was_measured_stands_in_the_pages_that_measured_it():
    """The proof table's numbers, where a page has them too."""
    explain, finetuning = (
        (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("explain", "finetuning")
    )
    assert "4.2e-6" in README and "4.2e-6" in explain
    for share in re.findall(r"(\d\d\.\d\d)%", README.partition("Fine-tuned on")[2].partition("## ")[0]):
        assert share in finetuning


def test_export_is_a_function_whatever_was_imported_before():
    """A folder of the package with a public function's name would hide it."""
    import paddle_cait as pc
    import paddle_cait.deploy.exporter

    for name in pc.__all__:
        assert isinstance(getattr(pc, name), type(pc)) == (name == "explain"), name  # the one room that is public
