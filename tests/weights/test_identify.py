"""Which presets a file fits: every preset knows its own file, and a wrong pairing names the right one."""

import functools
import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from google_npz import draw_google, google_shapes
from helpers import draw_state, npz, official_shapes, preset

import paddle_cait as pc
from paddle_cait.cli.main import main
from paddle_cait.presets import list_presets
from paddle_cait.weights.identify import facts_of, facts_of_preset, fits, in_canonical_names
from paddle_cait.weights.origin import known_as, origin_note
from paddle_cait.weights.plan import ModelSpec, make_plan
from paddle_cait.weights.tensors import Checkpoint, TensorRef

LABELLED = [p for p in list_presets() if p.collection != "demo"]


@functools.cache
def spec(name):
    with paddle.LazyGuard():
        return ModelSpec.of(pc.create_model(name))


def announced(name, prefix="", **changed):
    """A checkpoint with a preset's tensors announced and none of them there: no memory, whatever its size."""
    shapes = {**official_shapes(pc.get_preset(name)), **changed}
    tensors = {prefix + key: TensorRef(prefix + key, shape, "float32", lambda: 1 / 0) for key, shape in shapes.items()}
    return Checkpoint(Path(f"{name}.pth"), "pth-zip", {"model": tensors})


@pytest.mark.parametrize("chosen", LABELLED, ids=lambda p: p.full_name)
def test_a_presets_facts_are_those_of_its_shapes(chosen):
    shapes = official_shapes(chosen)
    assert facts_of(shapes) == facts_of_preset(chosen)
    assert chosen.full_name in {fit.preset.full_name for fit in fits(shapes) if not fit.differs}


@pytest.mark.parametrize(
    ("file", "model", "advice"),
    [
        ("vit_base_patch16_224", "vit_base_patch32_224", r"It fits vit_base_patch16_224 or deit_base"),
        ("vit_base_patch16_224.augreg_in21k", "vit_base_patch16_224", r"It fits vit_base_patch16_224\.augreg_in21k\."),
        ("vit_base_patch16_224.orig_in21k", "vit_base_patch16_224", r"It fits vit_base_patch16_224\.orig_in21k\."),
        ("vit_base_patch16_224", "vit_base_patch16_224.orig_in21k", r"It fits .*vit_base_patch16_224"),
        ("deit_small_distilled_patch16_224", "deit_small_patch16_224", r"It fits deit_small_distilled_patch16_224\."),
        (
            "deit_small_patch16_224",
            "deit3_small_patch16_224",
            r"It fits deit_small_patch16_224 or vit_small_patch16_224",
        ),
        ("dinov2_vits14_reg", "dinov2_vits14", r"It fits dinov2_vits14_reg\."),
        ("dino_vits16", "deit_small_patch16_224", r"It fits dino_vits16\."),
        ("vit_small_r26_s32_224", "vit_large_r50_s32_224", r"It fits vit_small_r26_s32_224\."),
        ("cait_xxs24_224", "deit_tiny_patch16_224", r"It fits cait_xxs24_224\."),
        ("gcvit_xxtiny", "gcvit_tiny", r"It fits gcvit_xxtiny\."),
        ("gcvit_tiny2", "vit_tiny_patch16_224", r"It fits gcvit_tiny2\."),
    ],
)
def test_a_wrong_pairing_names_the_right_preset(file, model, advice):
    with pytest.raises(pc.WeightsError, match=rf"does not fit {model}.*{advice}") as caught:
        make_plan(spec(model), announced(file))
    assert "\n" not in str(caught.value)


def test_a_fine_tuned_file_is_told_how_to_build_its_model():
    mine = {"head.weight": (5, 384), "head.bias": (5,)}
    with pytest.raises(pc.WeightsError, match=r"It fits deit_small_patch16_224 built with num_classes=5\."):
        make_plan(spec("deit_small_patch16_224"), announced("deit_small_patch16_224", **mine))
    table = {"pos_embed": (1, 1 + 32 * 32, 384)}
    with pytest.raises(pc.WeightsError, match=r"It fits dino_vits16 built with img_size=512\."):
        make_plan(spec("dino_vits16").exact(), announced("dino_vits16", **table))


def test_a_file_of_another_size_is_loaded_and_said():
    """Its position table is resampled, so the preset's numbers are not its."""
    report = make_plan(spec("deit3_base_patch16_224"), announced("deit3_base_patch16_384")).report
    assert "24x24 positions resampled to 14x14" in report.resized["pos_embed"]
    assert "whose numbers are not its. It fits deit3_base_patch16_384." in report.notes[0]
    with paddle.LazyGuard():
        smaller = ModelSpec.of(pc.create_model("dinov2_vits14", img_size=224))
    report = make_plan(smaller, announced("dinov2_vits14")).report
    assert "37x37 positions resampled to 16x16 by the rule 'dino'" in report.resized["pos_embed"] and not report.notes


def test_what_nothing_fits_gets_no_advice():
    with pytest.raises(pc.WeightsError, match=r"does not fit dino_vits16\.dino\. 1 tensors have no place"):
        make_plan(spec("dino_vits16"), announced("dino_vits16", **{"blocks.3.attn.rel_pos": (3, 3)}))


@pytest.mark.parametrize("numbering", ["released", "linen"])
def test_a_file_is_read_without_knowing_its_model(tmp_path, numbering):
    tiny = preset(tmp_path, family="vit_hybrid")
    path = npz(tmp_path / "x.npz", draw_google(google_shapes(tiny.arch, numbering)))
    from paddle_cait.weights.readers import open_checkpoint

    with open_checkpoint(path) as checkpoint:
        state, layout, named = in_canonical_names(checkpoint)
        assert layout.name == "google" and not named.transposed and len(state.tensors) > len(named.refs)
        assert facts_of(named.shapes) == facts_of_preset(tiny)


def small_file(tmp_path, **changes):
    chosen = preset(tmp_path, family="deit", **changes)
    return npz(tmp_path / "x.npz", draw_state(official_shapes(chosen)))


def test_inspect(tmp_path, capsys):
    path = small_file(tmp_path, distilled=True)
    words = ["--preset-file", str(tmp_path / "presets.yaml"), "--json", str(tmp_path / "r.json")]
    assert main(["convert", "--inspect", str(path), *words]) == 0
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["fits"] == ["tiny.drawn"] and found["layout"] == "official" and found["format"] == "npz"
    assert "PyTorch [out, in] matrices" in out and "  fits        tiny.drawn (deit)" in out
    assert len(found["differs"]) == len(list_presets()) and "width: 40, expected 192" in str(found["differs"])
    assert list(tmp_path.glob("*.pdparams")) == []


def test_inspect_names_what_is_missing(tmp_path, capsys):
    """Shapes alone would say that it fits."""
    path = small_file(tmp_path)
    state = dict(np.load(path))
    del state["blocks.1.attn.proj.bias"]
    npz(path, state)
    words = ["--preset-file", str(tmp_path / "presets.yaml")]
    assert main(["convert", "--inspect", str(path), *words]) == 0
    out = capsys.readouterr().out
    assert "not         tiny.drawn: 1 of the model's 44 tensors are missing: blocks.1.attn.proj.bias" in out


def test_inspect_of_something_else(tmp_path, capsys):
    path = npz(tmp_path / "x.npz", {"conv1.weight": np.zeros((64, 3, 7, 7), "float32"), "fc.bias": np.zeros(1000)})
    assert main(["convert", "--inspect", str(path)]) == 0
    assert "fits no preset under any of the layouts official, timm" in capsys.readouterr().out


def test_inspect_takes_no_output(tmp_path, capsys):
    path = small_file(tmp_path)
    assert main(["convert", "--inspect", str(path), "out.pdparams"]) == 2
    assert "--inspect writes nothing" in capsys.readouterr().err
    assert main(["convert", str(path)]) == 2
    assert "OUTPUT and --model are missing" in capsys.readouterr().err


def test_list_filters(tmp_path, capsys):
    assert main(["list", "--family", "dinov2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 9 and lines[1].split()[:5] == ["dinov2_vits14", "lvd142m", "22,056,192", "224", "79.000"]
    path = small_file(tmp_path)
    words = ["--preset-file", str(tmp_path / "presets.yaml"), "--fits", str(path)]
    assert main(["list", *words]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["model", "tiny"]
    assert main(["list", "cait_*", *words]) == 2
    assert "fits none of these presets" in capsys.readouterr().err
    assert main(["list", "--family", "resnet"]) == 2
    assert "unknown, expected one of cait" in capsys.readouterr().err


def test_whose_file_it_is(tmp_path):
    """The same shapes, other numbers: the hash, then the name, then the hub's config.json tell."""
    deit, vit = pc.get_preset("deit_small_patch16_224"), pc.get_preset("vit_small_patch16_224")
    official = tmp_path / deit.checkpoint.filename
    sha256 = deit.checkpoint.sha256_prefix + "0" * 56
    assert origin_note(official, sha256, deit) is None
    assert "its sha256 begins as that of deit_small_patch16_224.fb_in1k" in origin_note(tmp_path / "x.pth", sha256, vit)
    assert "is that of deit_small_patch16_224.fb_in1k, not of vit_small" in origin_note(official, "f" * 64, vit)
    assert origin_note(tmp_path / "x.pth", "f" * 64, vit) is None
    config = {"architecture": "vit_small_patch16_224", "pretrained_cfg": {"tag": "augreg_in1k"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    hub = tmp_path / "model.safetensors"
    assert "says vit_small_patch16_224.augreg_in1k, not of" in origin_note(hub, "f" * 64, vit)
    assert origin_note(hub, "f" * 64, pc.get_preset("vit_small_patch16_224.augreg_in1k")) is None
    assert known_as(hub, "f" * 64) == ["the config.json beside it says vit_small_patch16_224.augreg_in1k"]
    for broken in ("{", "[]", '{"architecture": 3}'):
        (tmp_path / "config.json").write_text(broken)
        assert known_as(hub, "f" * 64) == []
    sam, orig = (pc.get_preset(f"vit_base_patch16_224.{tag}") for tag in ("sam_in1k", "orig_in21k"))
    assert sam.checkpoint.filename == orig.checkpoint.filename  # both are ViT-B_16.npz: the name alone accuses nobody
    assert origin_note(tmp_path / "ViT-B_16.npz", "f" * 64, sam) is None
