"""What CONTRIBUTING.md shows works as shown: a preset is one YAML entry, a layout one row of a table."""

import re

import numpy as np
import paddle
from helpers import ROOT, draw_state, images, npz, official_shapes, preset, run

import paddle_cait as pc
from paddle_cait.presets import config_dir, get_preset, read_preset_file
from paddle_cait.weights import layouts
from paddle_cait.weights.layouts import LAYOUTS, Layout

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"```{language}\n(.*?)```", TEXT, re.S).group(1)


def test_the_preset_it_shows(tmp_path):
    path = tmp_path / "deit.yaml"
    path.write_text((config_dir() / "models" / "deit.yaml").read_text() + block("yaml"))
    added = set(read_preset_file(path)) - {"", *read_preset_file(config_dir() / "models" / "deit.yaml")}
    assert added == {"deit_tiny_patch16_256.mine_in1k"}
    chosen = get_preset("deit_tiny_patch16_256", path)
    with paddle.LazyGuard():
        model = pc.create_model(chosen)
    assert sum(int(np.prod(p.shape)) for p in model.parameters()) == chosen.num_params
    assert chosen.number(chosen.settings["timm"]).top1 == 73.3 and chosen.number().top1 == 73.1


def test_the_layout_it_shows(tmp_path, monkeypatch):
    row = eval(block("python"), {"Layout": Layout})
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
