"""Every recipe of configs/finetune: what its first lines promise, and that its settings are flags of the command."""

import argparse
import json

import numpy as np
import pytest
import yaml
from helpers import ROOT

from paddle_cait.cli import finetune
from paddle_cait.cli.common import parse
from paddle_cait.presets import config_dir, get_preset, read_preset_file

FOLDER = config_dir() / "finetune"
RECIPES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "presets.yaml")


def settings(path, *words):
    parser = argparse.ArgumentParser()
    finetune.add_arguments(parser)
    return parse(parser, ["-c", str(path), *words])


def test_there_are_some():
    assert len(RECIPES) > 5


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_tells_how_to_run_it_and_what_it_gave(path):
    head = [line[2:] for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"configs/finetune/{path.name}" in line for line in head), "the command"
    for word in ("Hardware", "Measured"):
        assert any(line.startswith(word) for line in head), word


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_its_settings_are_the_commands(path):
    args = settings(path)
    recipe = finetune.recipe_of(args)
    content = yaml.safe_load(path.read_text())
    assert get_preset(args.model, FOLDER / "presets.yaml").name == args.model
    assert args.output_dir.startswith("output/") and args.data_dir
    for key in ("epochs", "batch_size", "warmup_epochs", "drop_path", "layer_decay", "tune", "lr", "repeated_aug"):
        if key in content:
            assert getattr(recipe, key) == content[key], key
    for key in ("reprob", "aa", "color_jitter", "hflip"):
        if key in content:
            assert getattr(recipe.augmentation, key) == content[key], key
    if "mixup" in content:
        assert (recipe.mixup.mixup, recipe.mixup.cutmix) == (content["mixup"], content["cutmix"])
    assert recipe.clip_grad == (content.get("clip_grad", 1.0) or None)


def test_flags_win_over_the_recipe():
    args = settings(
        FOLDER / "imagenet_deit_tiny.yaml",
        "--epochs",
        "3",
        "-o",
        "batch_size=8",
        "-o",
        "mixup=0",
        "-o",
        "warmup_epochs=1",
    )
    recipe = finetune.recipe_of(args)
    assert (recipe.epochs, recipe.batch_size, recipe.mixup.mixup, recipe.mixup.cutmix) == (3, 8, 0, 1.0)


def test_the_small_models_have_the_size_they_state():
    import paddle_cait as pc

    for preset in read_preset_file(FOLDER / "presets.yaml").values():
        model = pc.create_model(preset)
        assert sum(parameter.size for parameter in model.parameters()) == preset.num_params


def test_the_weights_that_a_recipe_gave_say_what_they_are():
    """Those of pretrained/: as many classes as names, and the recipe's own settings."""
    import paddle_cait as pc

    path = ROOT / "pretrained" / "flowers_cait_small_48.safetensors"
    predict = pc.load_predictor(path, preset_file=FOLDER / "presets.yaml")
    assert list(predict.names) == ["daisy", "dandelion", "rose", "sunflower", "tulip"]
    yellow = np.zeros((128, 128, 3), np.uint8)
    yellow[:, :] = (230, 190, 20)
    assert predict(yellow).names[0] in ("dandelion", "sunflower")
    run = json.loads(path.with_name(path.name + ".json").read_text())["run"]
    content = yaml.safe_load((FOLDER / "flowers_cait_scratch.yaml").read_text())
    for key in ("epochs", "batch_size", "lr", "drop_path", "model_ema_decay", "weight_decay", "smoothing"):
        assert run[f"setting {key}"] == content[key], key
