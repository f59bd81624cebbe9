"""What CONTRIBUTING.md shows works as shown: its commands exist, a preset is one YAML entry, a layout one row of a
table, and a family the blocks of its section. What timm says of that family is in oracles/test_contributing_family.py.
"""

import re
import shlex
import sys

import numpy as np
import paddle
import pytest
from helpers import GOLDEN, ROOT, draw_state, images, npz, official_shapes, preset, run

import paddle_cait as pc
import paddle_cait.models
from paddle_cait import factory, presets
from paddle_cait.cli.inspect_file import inspect
from paddle_cait.explain.positions import position_similarity
from paddle_cait.presets import config_dir, get_preset, list_presets, read_preset_file
from paddle_cait.training.groups import layers
from paddle_cait.versions import __version__
from paddle_cait.weights import identify, layouts
from paddle_cait.weights.layouts import LAYOUTS, Layout

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SHRUNK = {"img_size": 48, "num_classes": 7, "embed_dim": 40, "depth": 3, "mlp_ratio": 3.0}
# timm's logits of the shrunk Mixer with drawn weights for `pictures`, in float64; the oracle test holds them.
LOGITS = np.array(
    [
        [-0.0856546, 0.1089134, 0.0417135, -0.5873959, -0.5674971, 0.1146914, -0.2743938],
        [-1.2288847, -0.3916902, -0.4061175, -0.1736684, -0.1672007, -0.7138881, 0.1217300],
    ]
)


def section(title):
    """The text below a heading, up to the next one of its level or above."""
    level, text = re.search(rf"^(##+) {title}\n(.*)", TEXT, re.M | re.S).groups()
    return re.split(rf"^#{{2,{len(level)}}} ", text, flags=re.M)[0]


def blocks(title, language=""):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", section(title), re.M | re.S)


def block(title, language):
    (only,) = blocks(title, language)
    return only


def test_the_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    listed = re.findall(r"^make (\w+) +# \S", TEXT, re.M)
    targets = re.search(r"^\.PHONY: (.*)", makefile, re.M).group(1).split()
    assert set(listed) == {*targets} - {"clean"} and all(re.search(rf"^{name}:", makefile, re.M) for name in listed)
    ci = re.findall(r"^make (\w+)$", (ROOT / ".ci" / "run").read_text(), re.M)
    assert listed[-1] == "slow" and set(ci) == set(listed[:-1]), "`.ci/run` runs all but the last"
    readers = re.search(r"fuzzes a checkpoint reader \((.*?)\)", TEXT, re.S).group(1)
    fuzzer = (ROOT / "tests" / "fuzz" / "fuzz_readers.py").read_text()
    known = re.search(r"^READER: (.*?)\.", fuzzer, re.M | re.S).group(1)
    assert set(re.findall(r"[\w-]+", readers)) == set(re.findall(r"[\w-]+", known))


def test_the_files_it_names_exist():
    """But those of the family that the package does not have, and what commands make."""
    made = {"docs/_build/html", "configs/models/FAMILY.yaml"}
    named = set(re.findall(r"(?<![\w/])(?:paddle_cait|tests|configs|docs)/[\w./]*\w", TEXT)) - made
    assert len(named) > 25 and [name for name in named if "mixer" not in name and not (ROOT / name).exists()] == []
    golden = re.findall(r"`((?:make|published)_\w+\.\w+)`", TEXT)
    assert len(golden) > 4 and [name for name in golden if not (GOLDEN / name).exists()] == []


def test_the_preset_it_shows(tmp_path):
    path = tmp_path / "deit.yaml"
    path.write_text((config_dir() / "models" / "deit.yaml").read_text() + block("A preset", "yaml"))
    added = set(read_preset_file(path)) - {"", *read_preset_file(config_dir() / "models" / "deit.yaml")}
    assert added == {"deit_tiny_patch16_256.mine_in1k"}
    chosen = get_preset("deit_tiny_patch16_256", path)
    assert parameters(chosen) == chosen.num_params
    assert chosen.number(chosen.settings["timm"]).top1 == 73.3 and chosen.number().top1 == 73.1


def parameters(chosen):
    with paddle.LazyGuard():
        model = pc.create_model(chosen)
    return sum(int(np.prod(p.shape)) for p in model.parameters())


def test_the_layout_it_shows(tmp_path, monkeypatch):
    row = eval(block("A key layout", "python"), {"Layout": Layout})
    tiny = preset(tmp_path, family="vit")
    state = draw_state(official_shapes(tiny))
    theirs = {}
    names = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}
    names |= {
        "patch_embed.proj": "embeddings.patch_embeddings",
        "norm.": "encoder.encoder_norm.",
        "norm1": "attention_norm",
    }
    names |= {"norm2": "ffn_norm", "attn.proj": "attn.out", ".mlp.": ".ffn.", "blocks.": "encoder.layer."}
    for name, value in state.items():
        for part, third in zip(("query", "key", "value"), np.split(value, 3) if ".qkv." in name else [value] * 3):
            key = name.replace("qkv", part)
            for ours, their in names.items():
                key = re.sub(rf"^{ours}" if not ours.startswith((".", "attn", "norm1", "norm2")) else ours, their, key)
            theirs[key if key.startswith("head") else f"transformer.{key}"] = third
    path = npz(tmp_path / "jeonsworld.npz", theirs)
    monkeypatch.setattr(layouts, "LAYOUTS", (*LAYOUTS, row))
    model = pc.create_model(tiny, path)
    assert model.load_report.layout == "jeonsworld"
    expected = pc.create_model(tiny, npz(tmp_path / "ours.npz", state))
    np.testing.assert_array_equal(run(model, images(2, 48)), run(expected, images(2, 48)))


def add_family(folder, monkeypatch, without=()):
    """Do what the section says; returns the preset of the YAML block. ``without``: the steps to leave out."""
    (folder / "mixer.py").write_text(block("The model", "python"))
    monkeypatch.setattr(paddle_cait.models, "__path__", [*paddle_cait.models.__path__, str(folder)])
    monkeypatch.setitem(sys.modules, "paddle_cait.models.mixer", None)  # so that it is taken away afterwards
    del sys.modules["paddle_cait.models.mixer"]
    for row, module, table in zip(blocks("Its name", "python"), (factory, presets), ("FAMILIES", "ARCH_FIELDS")):
        if table not in without:
            added = eval(f"{{{row}}}", dict(vars(module)))
            monkeypatch.setattr(module, table, {**getattr(module, table), **added})
    row, facts = blocks("Its files", "python")
    if "LAYOUTS" not in without:
        (layout,) = eval(f"[{row}]", {"Layout": Layout})
        monkeypatch.setattr(layouts, "LAYOUTS", (*LAYOUTS, layout))
    if "facts" not in without:
        names = dict(vars(identify))
        exec(facts, names)
        monkeypatch.setitem(identify._OWN_FACTS, "mixer", names["_facts_of_mixer"])
    path = folder / "mixer.yaml"
    path.write_text(block("Its presets", "yaml"))
    return get_preset("mixer_b16_224", path)


def shrunk(folder, chosen):
    """The same family small, also as a YAML file of its own."""
    flow = ", ".join(f"{key}: {value}" for key, value in {**chosen.arch, **SHRUNK}.items())
    text = re.sub(r"^    arch: .*", f"    arch: {{{flow}}}", block("Its presets", "yaml"), flags=re.M)
    text = text.replace("mixer_b16_224", "tiny_mixer").replace("img_size: 224}", "img_size: 48}")
    (folder / "tiny.yaml").write_text(text)
    return get_preset("tiny_mixer", folder / "tiny.yaml")


def pictures():
    """Two images, one of them faint: of its small numbers an epsilon is a part that shows."""
    return images(2, 48) * np.array([1, 0.01], "float32").reshape(2, 1, 1, 1)


def in_timms_names(shapes):
    return {name.replace("patch_embed.", "stem."): shape for name, shape in shapes.items()}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    return shrunk(tmp_path, add_family(tmp_path, monkeypatch))


@pytest.fixture
def file(tiny, tmp_path):
    """Drawn weights under timm's names."""
    return npz(tmp_path / "timm.npz", draw_state(in_timms_names(official_shapes(tiny))))


def test_the_family_it_shows(tmp_path, monkeypatch):
    chosen = add_family(tmp_path, monkeypatch)
    assert parameters(chosen) == chosen.num_params and chosen.number().top1 == 76.602
    assert identify.facts_of(official_shapes(chosen)) == identify.facts_of_preset(chosen)


def test_its_logits_are_timms(tiny, file):
    model = pc.create_model(tiny, file)
    assert model.load_report.layout == "timm (Mixer)" and not model.load_report.left_out
    np.testing.assert_allclose(run(model, pictures()), LOGITS, atol=1e-5)


def test_a_file_of_it_is_told_apart(tiny, file, tmp_path):
    found = inspect(file, preset_file=tmp_path / "tiny.yaml")
    assert found["fits"] == ["tiny_mixer.goog_in21k_ft_in1k"] and found["layout"] == "timm (Mixer)"


def test_it_learns_layer_by_layer(tiny, file):
    model = pc.create_model(tiny, file, num_classes=3)
    assert set(model.load_report.kept) == {"head.weight", "head.bias"}
    depths = layers(name for name, _ in model.named_parameters())
    assert depths["patch_embed.proj.weight"] == 0 and depths["blocks.1.mlp_tokens.fc1.weight"] == 2
    model(paddle.to_tensor(images(2, 48))).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in model.parameters())
    assert layers([*depths, "stem.proj.weight"])["stem.proj.weight"] == depths["head.weight"], "as the table says"


def test_what_the_table_says_is_said(tiny, file, tmp_path, monkeypatch):
    model = pc.create_model(tiny, file)
    with pytest.raises(pc.PaddleCaitError, match="Mixer cannot be fused"):
        pc.fuse(model)
    with pytest.raises(pc.PaddleCaitError, match="its attention cannot be captured"), pc.capture_attention(model):
        pass
    with pytest.raises(pc.PaddleCaitError, match="Mixer: has no position table"):
        position_similarity(model)
    with pytest.raises(pc.WeightsError, match=r"blocks\.\{0-2\}\.mlp_tokens\.fc1\.weight is \[9, 20\]"):
        pc.create_model(tiny, file, img_size=64)
    with pytest.raises(pc.PaddleCaitError, match="no_such_keyword"):
        pc.create_model(tiny, no_such_keyword=1)
    monkeypatch.delattr(type(model), "classifier")
    with pytest.raises(pc.WeightsError, match=r"head\.weight is \[40, 7\], expected \[40, 3\]"):
        pc.create_model(tiny, file, num_classes=3)


@pytest.mark.parametrize("step", ["ARCH_FIELDS", "LAYOUTS", "facts"])
def test_without_a_step(step, tmp_path, monkeypatch):
    if step == "ARCH_FIELDS":
        with pytest.raises(pc.PresetError, match="family is 'mixer', expected one of "):
            add_family(tmp_path, monkeypatch, without=step)
        return
    chosen = shrunk(tmp_path, add_family(tmp_path, monkeypatch, without=step))
    path = npz(tmp_path / "x.npz", draw_state(in_timms_names(official_shapes(chosen))))
    if step == "facts":
        assert inspect(path, preset_file=tmp_path / "tiny.yaml")["fits"] == []
    else:
        with pytest.raises(pc.WeightsError, match=r"2 tensors have no place in the model: stem\.proj\.\{weight,bias\}"):
            pc.create_model(chosen, path)


def test_a_family_is_in_both_tables():
    assert factory.FAMILIES.keys() == presets.ARCH_FIELDS.keys() == {chosen.family for chosen in list_presets()}


def test_the_release():
    """The version is in one place, the changelog begins with it, the wheel is tried on the Makefile's Paddles."""
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M).group(1)
    assert heading == __version__
    sources = [ROOT / "setup.py", *(ROOT / "docs").glob("*.py"), *(ROOT / "paddle_cait").rglob("*.py")]
    assert [path.name for path in sources if f'"{__version__}"' in path.read_text(encoding="utf-8")] == ["versions.py"]
    pinned = re.search(r"for paddle in (.*?); do", section("A release")).group(1)
    makefile = (ROOT / "Makefile").read_text()
    assert shlex.split(pinned) == re.findall(r"^(?:PADDLE \?=|reduced: export PADDLE :=) (.*)", makefile, re.M)
