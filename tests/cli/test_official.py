"""``official`` in place of a file: every verb that reads a checkpoint asks for the authors' own."""

import shutil

import pytest
from helpers import ROOT

import paddle_cait as pc
from paddle_cait.cli.main import main
from paddle_cait.weights import cache

CHECKPOINT = ROOT / "pretrained" / "demo_cait_digits.pth"
NAME = "demo_cait_digits"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The presets asked for; what comes is the bundled checkpoint."""
    presets = []

    def official_weights(preset, **options):
        presets.append(preset.full_name)
        path = tmp_path / "cache" / "official.pth"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(CHECKPOINT, path)
        return cache.Official(preset, path, path.stat().st_size, "0" * 64, "first", "http://127.0.0.1/official.pth")

    monkeypatch.setattr(cache, "official_weights", official_weights)
    monkeypatch.chdir(tmp_path)
    return presets


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "official", "out.pdparams", "--model", NAME],
        [
            "eval",
            "--model",
            NAME,
            "--weights",
            "official",
            "--data",
            ROOT / "pretrained" / "demo_digits" / "digits.tar",
        ],
        ["export", "--model", NAME, "--weights", "official", "--output-dir", "out", "--formats", "paddle"],
        ["explain", "filters", "--model", NAME, "--weights", "official", "--out", "f.png"],
    ],
    ids=lambda words: words[0],
)
def test_the_authors_file_is_fetched_and_used(asked, capsys, words):
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    assert set(asked) == {"demo_cait_digits.digits"}


def test_in_python(asked):
    assert pc.create_model(NAME, weights="official").load_report.path.endswith("official.pth")


@pytest.mark.parametrize("verb", ["eval", "export", "explain"])
def test_whose_must_be_said(asked, capsys, verb):
    words = {"eval": ["--data", "x"], "export": [], "explain": ["filters", "--out", "x"]}[verb]
    assert main([verb, *words, "--weights", "official"]) == 2
    assert "--weights official: whose? give --model" in capsys.readouterr().err
