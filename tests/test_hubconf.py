"""``paddle.hub``: every preset is an entry point that says what it is, loads weights, and takes further keywords."""

import subprocess
import sys

import numpy as np
import paddle
import pytest
from helpers import ROOT, images, run

import paddle_cait as pc
from paddle_cait.presets import list_presets

REPO = str(ROOT)
DIGITS = ROOT / "pretrained" / "demo_cait_digits.pth"


def load(name, **keywords):
    return paddle.hub.load(REPO, name, source="local", **keywords)


def test_the_list_names_each_preset_once_and_nothing_else():
    names = paddle.hub.list(REPO, source="local")
    assert sorted(pc.get_preset(name).full_name for name in names) == sorted(p.full_name for p in list_presets())
    assert set(pc.list_models()) < set(names)


@pytest.mark.parametrize("preset", list_presets(), ids=lambda p: p.full_name)
def test_every_entry_has_help(preset):
    text = paddle.hub.help(REPO, preset.full_name, source="local")
    assert text.startswith(f"{preset.full_name}: {preset.num_params:,} parameters, images of")
    assert preset.licence in text and preset.paper in text and "pretrained:" in text
    if preset.published:
        assert f"top-1 {preset.published.top1:.3f}%" in text and preset.published.source in text


def test_weights_come_from_a_file():
    model = load("demo_cait_digits", pretrained=DIGITS)
    expected = pc.create_model("demo_cait_digits", DIGITS)
    x = images(2, 32)
    np.testing.assert_array_equal(run(model, x), run(expected, x))
    assert model.preset.full_name == "demo_cait_digits.digits" and model.load_report.sha256


def test_keywords_reach_the_model():
    with paddle.LazyGuard():
        model = load("vit_base_patch16_224.augreg_in21k_ft_in1k", num_classes=5, img_size=96)
    assert model.preset.tag == "augreg_in21k_ft_in1k"
    assert model.head.weight.shape == [768, 5] and model.pos_embed.shape == [1, 37, 768]


@pytest.mark.parametrize(
    ("pretrained", "weights"), [(True, "official"), ("official", "official"), (False, None), ("a.pth", "a.pth")]
)
def test_what_pretrained_means(monkeypatch, pretrained, weights):
    asked = []
    monkeypatch.setattr("paddle_cait.factory.create_model", lambda *words: asked.append(words))
    load("cait_xxs24_224", pretrained=pretrained)
    assert asked == [(pc.get_preset("cait_xxs24_224"), weights)]


def test_a_mistake_is_one_line():
    with pytest.raises(RuntimeError, match="Cannot find callable cait_xxs_24 in hubconf"):
        load("cait_xxs_24")
    with pytest.raises(pc.WeightsError, match=r"none.pth: "):
        load("demo_cait_digits", pretrained="none.pth")


def test_without_yaml_it_says_what_to_install(tmp_path):
    (tmp_path / "yaml.py").write_text("raise ModuleNotFoundError(\"No module named 'yaml'\", name='yaml')\n")
    program = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {REPO!r}]; import hubconf"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "RuntimeError: paddle_cait needs yaml: pip install numpy pillow pyyaml tqdm"


def test_a_checkout_that_is_not_installed_and_a_relative_path(tmp_path):
    """Paddle takes the folder off the path again at once; what is imported later must still be found."""
    program = (
        "import os, sys, warnings; warnings.simplefilter('ignore'); import paddle\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'ditable' not in repr(f)]\n"
        f"sys.path[:] = [p for p in sys.path if p and p != {REPO!r}]; os.chdir({REPO!r})\n"
        "entry = paddle.hub.help('.', 'demo_cait_digits', source='local'); os.chdir('/')\n"
        "import paddle_cait.factory; print(paddle_cait.factory.__file__)\n"
        f"paddle_cait.factory.create_model('demo_cait_digits', {str(DIGITS)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(REPO), done.stderr
