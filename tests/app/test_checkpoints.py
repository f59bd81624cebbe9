"""What the page offers: files and folders, found by content, never more than was named."""

import json
import logging

import numpy as np
import pytest
from helpers import ROOT, draw_state, npz, official_shapes, preset

import paddle_cait as pc
from paddle_cait.app.checkpoints import find_offers
from paddle_cait.errors import ConfigError, PaddleCaitError, PresetError

DIGITS = ROOT / "pretrained" / "demo_cait_digits.pth"


def test_a_named_file_is_offered_with_the_presets_that_it_fits():
    offers = find_offers([DIGITS])
    (build,) = offers["demo_cait_digits.pth"].builds.values()
    assert build.preset.full_name == "demo_cait_digits.digits" and build.keywords == {}


def test_a_folder_offers_what_fits_and_says_what_does_not(tmp_path, caplog):
    chosen = preset(tmp_path, family="deit")
    npz(tmp_path / "good.npz", draw_state(official_shapes(chosen)))
    npz(tmp_path / "other.npz", {"a": np.zeros(3, np.float32)})
    (tmp_path / "page.pth").write_text("<html>")
    (tmp_path / "notes.txt").write_text("no checkpoint")
    with caplog.at_level(logging.WARNING, "paddle_cait"):
        offers = find_offers([tmp_path], preset_file=tmp_path / "presets.yaml")
    assert list(offers) == ["good.npz"]
    assert ["page.pth" in line for line in caplog.messages] == [False, True]  # notes.txt is not even opened


def test_a_named_file_that_fits_nothing_is_an_error(tmp_path):
    with pytest.raises(PaddleCaitError, match="other.npz: "):
        find_offers([npz(tmp_path / "other.npz", {"a": np.zeros(3, np.float32)})])
    with pytest.raises(ConfigError, match="nowhere: no such file or folder"):
        find_offers([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no checkpoint among them, expected .pth"):
        find_offers([tmp_path / "empty"])


def test_model_names_the_preset_and_must_fit(tmp_path):
    (build,) = find_offers([DIGITS], model="demo_cait_digits")["demo_cait_digits.pth"].builds.values()
    assert build.preset.name == "demo_cait_digits"
    with pytest.raises(ConfigError, match=r"fits no preset; the nearest is deit_tiny.*, but width: 48, expected 192"):
        find_offers([DIGITS], model="deit_tiny_patch16_224")


def test_another_head_and_size_are_built_as_the_file_has_them(tmp_path):
    chosen = preset(tmp_path, family="deit")
    shapes = official_shapes(chosen)
    shapes.update({"head.weight": (3, 40), "head.bias": (3,), "pos_embed": (1, 17, 40)})
    path = npz(tmp_path / "mine.npz", draw_state(shapes))
    (build,) = find_offers([path], preset_file=tmp_path / "presets.yaml")["mine.npz"].builds.values()
    assert build.keywords == {"num_classes": 3, "img_size": 64}
    pc.create_model(build.preset, path, **build.keywords)


def test_a_fine_tuned_checkpoint_says_its_model_and_classes():
    found = find_offers([ROOT / "pretrained"], preset_file=ROOT / "configs" / "finetune" / "presets.yaml")
    offer = found["flowers_cait_small_48.safetensors"]
    (build,) = offer.builds.values()
    assert build.keywords["num_classes"] == 5 and build.keywords["img_size"] == 48
    assert offer.class_names == tuple(
        json.loads((ROOT / "pretrained" / "flowers_cait_small_48.safetensors.json").read_text())["class_names"]
    )
    with pytest.raises(PresetError, match="give the --preset-file"):
        find_offers([offer.path])


def test_names_tell_files_apart_without_their_paths(tmp_path):
    data = DIGITS.read_bytes()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.pth").write_bytes(data)
    assert list(find_offers([tmp_path / "a", tmp_path / "b", tmp_path / "a" / "w.pth"])) == ["a/w.pth", "b/w.pth"]
