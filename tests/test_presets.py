"""Every YAML on disk is loaded; every departure from the schema names the file and the preset."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import preset

import paddle_cait as pc
from paddle_cait import yaml_files
from paddle_cait.presets import config_dir, list_presets, read_preset_file

CAIT = ["cait_xxs24_224", "cait_xxs24_384", "cait_xxs36_224", "cait_xxs36_384", "cait_xs24_384"]
CAIT += ["cait_s24_224", "cait_s24_384", "cait_s36_384", "cait_m36_384", "cait_m48_448"]


def test_every_yaml_on_disk_is_loaded():
    files = sorted(config_dir().rglob("*.yaml"))
    assert files
    for path in files:
        assert yaml_files.read_yaml(path), path
    collections = {path.stem for path in (config_dir() / "models").glob("*.yaml")}
    assert {p.collection for p in list_presets()} == collections


def test_the_ten_cait_models():
    assert pc.list_models("cait_*")[:10] == CAIT
    assert set(pc.list_models()) > set(CAIT)
    chosen = pc.get_preset("cait_s24_224")
    assert chosen == pc.get_preset("cait_s24_224.fb_dist_in1k")
    assert (chosen.family, chosen.num_classes, chosen.num_params, chosen.licence) == (
        "cait",
        1000,
        46916200,
        "Apache-2.0",
    )
    assert (chosen.published.top1, chosen.published.top5, chosen.published.n) == (83.484, 96.586, 50000)
    assert chosen.published.tolerance == 0.05 and "seven releases" in chosen.published.tolerance_reason


@pytest.mark.parametrize("name", CAIT)
def test_cait_is_never_cropped(name):
    """The authors resize to the input size itself; the port that used 248 lost 0.4 points."""
    chosen = pc.get_preset(name)
    assert chosen.preprocess.crop_pct == 1.0 and chosen.preprocess.interpolation == "bicubic"
    assert chosen.preprocess.img_size == chosen.arch["img_size"] == int(name[-3:])
    assert chosen.published.preprocess == chosen.preprocess
    resized = [n for n in chosen.also_published if "248" in n.source]
    assert all(n.preprocess.crop_pct == 0.9 for n in resized) and len(resized) == (name in {CAIT[0], CAIT[2], CAIT[5]})


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(pc.PresetError, match="did you mean cait_xxs24_224"):
        pc.get_preset("cait_xxs24-224")
    with pytest.raises(pc.PresetError, match="paddle-cait list"):
        pc.get_preset("efficientnet")


def test_a_users_own_file(tmp_path):
    tiny = preset(tmp_path)
    path = tmp_path / "presets.yaml"
    assert pc.get_preset("tiny", path) == tiny
    assert pc.list_models("t*", path) == ["tiny"]
    assert pc.get_preset("cait_m48_448", path).num_params == 356460520
    assert pc.create_model("tiny", preset_file=path).num_classes == 7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("depth: 3", "depths: 3", r"tiny\.drawn: arch: unknown key 'depths': did you mean 'depth'"),
        ("depth: 3, ", "", r"tiny\.drawn: arch: 'depth' is missing"),
        ("depth: 3", "depth: three", r"arch: depth: is 'three', expected int"),
        ("depth: 3", "depth: true", r"arch: depth: is True, expected int"),
        ("1.0e-5", "1e-5", r"init_values: is '1e-5', expected float \(YAML reads 1e-5 as text"),
        ("family: cait", "family: resnet", r"family is 'resnet', expected one of cait"),
        ("licence: Apache-2.0\n", "", r"'licence' is missing"),
        ("n: 12", "n: many", r"tiny\.drawn: published: n: is 'many', expected int"),
        ("top1: 50.0, ", "", r"tiny\.drawn: published: 'top1' is missing"),
        ("[0.5, 0.5, 0.5], std", "[0.5, 0.5], std", r"preprocess: mean: is \[0.5, 0.5\], expected a list of 3 floats"),
        ("bicubic", "cubic", r"tiny\.drawn: preprocess: interpolation is 'cubic', expected one of"),
        ("crop_pct: 1.0", "crop_pct: 1.2", r"tiny\.drawn: preprocess: .*crop_pct"),
        ("center", "middle", r"crop_mode is 'middle', expected one of center, squash"),
        ("    tags:\n      drawn:", "    tag:\n      drawn:", r"tiny: `tags` is missing"),
        ("filename: drawn.pth", "file: drawn.pth", r"tiny\.drawn: checkpoint: unknown key 'file'"),
        ("num_params: 1", "num_params: 1\n    num_params: 2", r"the key 'num_params' stands twice"),
        ("models:", "models: [", r"not valid YAML"),
        ("points: 0.05, ", "", r"'tolerance' is missing"),
    ],
)
def test_mistakes_name_the_file_and_the_preset(tmp_path, old, new, message):
    preset(tmp_path)
    path = tmp_path / "presets.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(pc.PresetError, match=message) as caught:
        read_preset_file(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(pc.PresetError, match="none.yaml: cannot be read"):
        pc.get_preset("tiny", tmp_path / "none.yaml")


def test_the_name_of_a_packaged_preset_is_taken(tmp_path):
    """The same preset once more is fine (a copy of a packaged file with one of your own added), another is not."""
    packaged = (config_dir() / "models" / "cait.yaml").read_text()
    own = tmp_path / "cait.yaml"
    own.write_text(packaged)
    assert pc.get_preset("cait_xxs24_224", own) == pc.get_preset("cait_xxs24_224")
    own.write_text(packaged.replace("top1: 78.400", "top1: 78.500", 1))
    with pytest.raises(pc.PresetError, match="cait.yaml: cait_xxs24_224.fb_dist_in1k: a packaged preset .* another"):
        pc.get_preset("cait_xxs24_224", own)


def test_listing_never_imports_paddle():
    code = "import sys, paddle_cait as pc; pc.list_models(); print('paddle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_list_shows_what_the_yaml_says(capsys):
    from paddle_cait.cli.main import main

    assert main(["list", "cait_*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 11
    for line, name in zip(lines[1:], CAIT):
        assert line.startswith(name) and f"{pc.get_preset(name).num_params:,}" in line


def test_yaml_merges_defaults_model_and_tag(tmp_path):
    preset(tmp_path)
    path = tmp_path / "presets.yaml"
    content = yaml.safe_load(path.read_text())
    content["models"]["tiny"]["tags"]["other"] = {
        "arch": {"num_classes": 9},
        "preprocess": {"crop_mode": "squash"},
        "licence": "MIT",
    }
    path.write_text(yaml.safe_dump(content).replace("1.0e-05", "1.0e-5"))
    first, second = read_preset_file(path).values()
    assert (first.num_classes, second.num_classes) == (7, 9)
    assert (first.preprocess.crop_mode, second.preprocess.crop_mode) == ("center", "squash")
    assert (first.licence, second.licence) == ("Apache-2.0", "MIT") and second.published is None


def test_numbers_agree_with_the_reference_table():
    """The published table of the authors' and timm's numbers, kept beside the golden arrays."""
    path = Path(__file__).parent / "golden" / "published_cait.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["name"] for row in rows] == CAIT
    for row in rows:
        chosen = pc.get_preset(row["name"])
        arch = chosen.arch
        facts = (arch["img_size"], arch["embed_dim"], arch["depth"], arch["num_heads"], chosen.num_params)
        assert facts == tuple(int(row[k]) for k in ("img_size", "embed_dim", "depth", "num_heads", "params"))
        assert (chosen.published.top1, chosen.published.top5) == (float(row["top1_timm"]), float(row["top5_timm"]))
        assert arch["init_values"] == float(row["init_values"])
        assert chosen.checkpoint.url == row["checkpoint_url"]


REFERENCE = list(csv.DictReader((Path(__file__).parent / "golden" / "published_vit.csv").read_text().splitlines()))


def test_every_row_of_the_reference_table_is_a_preset():
    families = ("deit", "deit3", "dino", "vit", "vit_hybrid")
    ours = {p.full_name for p in list_presets() if p.family in families}
    assert ours >= {f"{row['name']}.{row['tag']}" for row in REFERENCE} and len(REFERENCE) == 95


@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: f"{row['name']}.{row['tag']}")
def test_the_vit_line_agrees_with_the_reference_table(row):
    chosen = pc.get_preset(f"{row['name']}.{row['tag']}")
    arch, pre = chosen.arch, chosen.preprocess
    for key in ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "num_classes"):
        assert arch[key] == int(row[key]), key
    assert chosen.num_params == int(row["params"]) and pre.img_size == arch["img_size"]
    assert ("representation_size" in arch) == (row["pre_logits"] not in ("", "none"))
    assert list(pre.mean) == [float(v) for v in row["mean"].split()]
    if row["crop_pct"]:
        assert (pre.crop_pct, pre.interpolation) == (float(row["crop_pct"]), row["interpolation"])
        assert pre.crop_mode == (row["crop_mode"] or "center")
    if row["checkpoint_url"]:
        assert chosen.checkpoint.url == row["checkpoint_url"]
    assert (chosen.checkpoint.sha256_prefix or "") == row["sha256_prefix"]
    numbers = {(n.top1, n.protocol, n.preprocess) for n in (chosen.published, *chosen.also_published) if n}
    timm = chosen.settings["timm"]
    if row["top1_timm"]:
        assert timm.crop_pct == float(row["timm_crop_pct"] or {"224": 0.9, "384": 1.0}[row["img_size"]])
        assert (float(row["top1_timm"]), "classifier", timm) in numbers
    if row["top1_published"]:
        assert (float(row["top1_published"]), "classifier", pre) in numbers
    for protocol in ("knn", "linear"):
        if row[f"{protocol}_top1"]:
            assert chosen.number(pre, protocol).top1 == float(row[f"{protocol}_top1"])


@pytest.mark.parametrize("chosen", [p for p in list_presets() if p.family.startswith("vit")], ids=lambda p: p.full_name)
def test_the_gelu_form_reproduces_the_published_number(chosen):
    """timm's numbers were measured with the exact form and its own stem constants, Google's with Google's."""
    google = chosen.published is None or "google-research" in chosen.published.source
    if chosen.published is not None or chosen.tag == "orig_in21k":
        assert chosen.arch.get("act", "gelu") == ("gelu_tanh" if google else "gelu")
        assert chosen.arch.get("constants", "flax" if google else "timm") == ("flax" if google else "timm")


def test_a_number_is_chosen_by_what_was_done():
    deit = pc.get_preset("deit_base_patch16_384")
    assert deit.number().top1 == deit.number(deit.settings["official"]).top1 == 82.890
    assert deit.number(deit.settings["timm"]).top1 == 83.108
    assert deit.number(dataset="ImageNet-ReaL").n == 46837 and deit.number(protocol="knn") is None
    vit = pc.get_preset("vit_base_patch16_224.orig_in21k_ft_in1k")
    assert vit.number().top1 == 81.782 and vit.number(vit.preprocess).top1 == 81.2
    dino = pc.get_preset("dinov2_vitl14_reg")
    assert (dino.number(protocol="knn").top1, dino.number(protocol="linear").top1) == (83.8, 86.7)
    assert dino.number() is None and dino.preprocess.img_size == 224 and dino.arch["img_size"] == 518
