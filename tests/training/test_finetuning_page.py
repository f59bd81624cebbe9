"""docs/finetuning.md: its programs run as they stand; the flags, defaults and columns that it names are the code's."""

import argparse
import dataclasses
import importlib
import re
import tarfile
from fractions import Fraction

import numpy as np
import pytest
from helpers import ROOT

import paddle_cait as pc
from paddle_cait.training.history import COLUMNS

PAGE = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")
FINETUNE, OWN_LOOP, PADDLE_MODEL = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
TRAIN, VAL = 34, 8  # images; the programs' batches hold 32


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder as the page has it: ``pretrained/``, and ``digits/`` with some of the bundled digits."""
    bundled = ROOT / "pretrained"
    (tmp_path / "pretrained").symlink_to(bundled, target_is_directory=True)
    labels = dict(line.split() for line in (bundled / "demo_digits" / "val_list.txt").read_text().splitlines())
    rows = []
    with tarfile.open(bundled / "demo_digits" / "digits.tar") as tar:
        for member in tar.getmembers()[: TRAIN + VAL]:
            label = int(labels[member.name]) % 2
            path = tmp_path / "digits" / ("even", "odd")[label] / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())
            rows.append(f"{path.parent.name}/{path.name} {label}\n")
    (tmp_path / "digits" / "train_list.txt").write_text("".join(rows[:TRAIN]))
    (tmp_path / "digits" / "val_list.txt").write_text("".join(rows[TRAIN:]))
    (tmp_path / "digits" / "labels.txt").write_text("even\nodd\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(program):
    exec(compile(program, "docs/finetuning.md", "exec"), {"__name__": "__main__"})


def assert_trained(file):
    """Every tensor of ``file`` is the model's, and the backbone is no longer the checkpoint's."""
    found, before = (
        pc.create_model("demo_cait_digits", path, num_classes=2).blocks[0].mlp.fc1.weight.numpy()
        for path in (file, "pretrained/demo_cait_digits.pth")
    )
    assert np.isfinite(found).all() and (found != before).any()


def test_finetune(place, capsys):
    run(FINETUNE)
    file, top1, loss = capsys.readouterr().out.split()
    assert file == "out3/best.pdparams" and 0 <= float(top1) <= 100 and float(loss) > 0
    assert_trained(place / file)


def test_a_loop_of_ones_own(place, capsys):
    run(OWN_LOOP)
    assert float(capsys.readouterr().out) in [100 * right / VAL for right in range(VAL + 1)]
    assert_trained(place / "own.pdparams")


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # paddle.Model of Paddle 3.3 does that itself
def test_paddle_model(place, capsys):
    run(PADDLE_MODEL)
    assert capsys.readouterr().out.count(f"Eval samples: {VAL}") == 3
    assert_trained(place / "hapi.pdparams")


def flags_of(verb):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"paddle_cait.cli.{verb}").add_arguments(parser)
    return set(parser._option_string_actions)


def test_its_commands_have_such_flags():
    commands = re.findall(r"^\$ paddle-cait (\w+) (.*)$", PAGE.replace("\\\n", ""), re.M)
    assert [verb for verb, _ in commands] == ["split", "finetune", "eval", "export", "predict"]
    for verb, words in commands:
        assert {word for word in words.split() if word.startswith("--")} <= flags_of(verb), verb
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
