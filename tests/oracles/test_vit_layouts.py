"""Files of the ViT line as timm, transformers, the authors' training code and other Paddle ports write them.

Each is written by (or after) the other party's own code and comes through the real loader to that party's outputs.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
pytest.importorskip("timm", reason="the oracle is timm: make oracles")
transformers = pytest.importorskip("transformers", reason="the oracle is transformers: make oracles")

import paddle  # noqa: E402
from helpers import draw_state, images, preset, run  # noqa: E402
from timm.layers import SwiGLUPacked  # noqa: E402
from timm.models.deit import VisionTransformerDistilled  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

import paddle_cait as pc  # noqa: E402

TIMM = {"img_size": 48, "patch_size": 16, "embed_dim": 40, "depth": 3, "num_heads": 5, "mlp_ratio": 3.0}
HUGGING_FACE = {
    "hidden_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "image_size": 48,
    "patch_size": 16,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
}
LABELS = {"id2label": {i: str(i) for i in range(7)}, "label2id": {str(i): i for i in range(7)}}


def drawn(model, seed=0):
    state = draw_state({name: tuple(value.shape) for name, value in model.state_dict().items()}, seed)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model.eval()


def outputs(model, x, pick=lambda out: out):
    with torch.no_grad():
        return pick(model.double()(torch.from_numpy(x).double())).numpy()


def saved(model, path, kind):
    """The file of a transformers model: as the hub has it, as its older .bin, or its live state dict."""
    model = model.float()
    if kind == "safetensors":
        model.save_pretrained(path)
        return path / "model.safetensors"
    state = model.state_dict()
    if kind == "bin":
        model.save_pretrained(path)
        state = transformers.modeling_utils.load_state_dict(str(path / "model.safetensors"))
    torch.save(dict(state), path / "pytorch_model.bin")
    return path / "pytorch_model.bin"


def check(tiny, path, expected, layout, size=48, **options):
    model = pc.create_model(tiny, path, **options)
    assert model.load_report.layout == layout
    np.testing.assert_allclose(run(model, images(2, size)), expected, atol=1e-5)
    return model


KINDS = ("safetensors", "bin", "live")


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_vit(tmp_path, kind):
    config = transformers.ViTConfig(intermediate_size=120, **HUGGING_FACE, **LABELS)
    model = drawn(transformers.ViTForImageClassification(config))
    expected = outputs(model, images(2, 48), lambda out: out.logits)
    check(preset(tmp_path, family="vit"), saved(model, tmp_path, kind), expected, "hugging face")


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_vit_with_its_pooler(tmp_path, kind):
    """google/vit-base-patch16-224-in21k: the pooler is Google's representation layer, and there is no head."""
    config = transformers.ViTConfig(intermediate_size=120, **HUGGING_FACE)
    model = drawn(transformers.ViTModel(config))
    expected = outputs(model, images(2, 48), lambda out: out.last_hidden_state[:, 0])
    path = saved(model, tmp_path, kind)
    tiny = preset(tmp_path, family="vit", num_classes=0)
    report = check(tiny, path, expected, "hugging face").load_report
    assert all("pooler" in reason for reason in report.left_out.values()) and len(report.left_out) == 2
    pooled = outputs(model, images(2, 48), lambda out: out.pooler_output)
    tiny = preset(tmp_path, family="vit", representation_size=40)
    ours = pc.create_model(tiny, path, num_classes=4, representation_size=40)
    ours.head = paddle.nn.Identity()
    np.testing.assert_allclose(run(ours, images(2, 48)), pooled, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_deit(tmp_path, kind):
    config = transformers.DeiTConfig(intermediate_size=120, **HUGGING_FACE, **LABELS)
    tiny = preset(tmp_path, family="deit", distilled=True)
    model = drawn(transformers.DeiTForImageClassificationWithTeacher(config))
    expected = outputs(model, images(2, 48), lambda out: out.logits)
    check(tiny, saved(model, tmp_path, kind), expected, "hugging face")
    model = drawn(transformers.DeiTForImageClassification(config))
    expected = outputs(model, images(2, 48), lambda out: out.logits)
    path = saved(model, tmp_path, kind)
    check(tiny, path, expected, "hugging face", head_dist=False)
    with pytest.raises(pc.WeightsError, match="head_dist=False"):
        pc.create_model(tiny, path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("swiglu", [False, True])
def test_hugging_face_dinov2(tmp_path, kind, registers, swiglu):
    changes = {"ffn": "swiglu"} if swiglu else {}
    options = {**HUGGING_FACE, "mlp_ratio": 3, "use_swiglu_ffn": swiglu}
    if registers:
        changes["num_register_tokens"] = registers
        config = transformers.Dinov2WithRegistersConfig(num_register_tokens=registers, **options)
        model = drawn(transformers.Dinov2WithRegistersModel(config))
    else:
        model = drawn(transformers.Dinov2Model(transformers.Dinov2Config(**options)))
    tiny = preset(tmp_path, family="dinov2", **changes)
    expected = outputs(model, images(2, 48), lambda out: out.last_hidden_state)
    path = saved(model, tmp_path, kind)
    ours = check(tiny, path, expected[:, 0], "hugging face")
    assert list(ours.load_report.left_out) == ["mask_token"]
    with paddle.no_grad():
        np.testing.assert_allclose(ours.forward_tokens(paddle.to_tensor(images(2, 48))).numpy(), expected, atol=1e-5)


def test_a_hugging_face_classifier_on_dinov2_is_left_out(tmp_path):
    model = drawn(transformers.Dinov2ForImageClassification(transformers.Dinov2Config(mlp_ratio=3, **HUGGING_FACE)))
    path = saved(model, tmp_path, "safetensors")
    report = pc.create_model(preset(tmp_path, family="dinov2"), path).load_report
    assert "classifier of 2 classes, the model has none" in report.left_out["head.weight"]


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("swiglu", [False, True])
def test_timm_dinov2(tmp_path, registers, swiglu):
    """With registers timm folds the class token's position into the class token."""
    options = {"mlp_layer": SwiGLUPacked, "mlp_ratio": 2.0, "act_layer": torch.nn.SiLU} if swiglu else {}
    options = {**TIMM, "num_classes": 0, "init_values": 1.0, "reg_tokens": registers, **options}
    model = drawn(VisionTransformer(no_embed_class=registers > 0, **options))
    changes = {"ffn": "swiglu", "mlp_ratio": 1.5} if swiglu else {}
    tiny = preset(tmp_path, family="dinov2", num_register_tokens=registers, **changes)
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    layout = "timm (SwiGLU)" if swiglu else "timm (registers)" if registers else "official"
    check(tiny, tmp_path / "timm.pth", outputs(model, images(2, 48)), layout)


def test_a_classifier_in_a_backbones_file_is_called_one(tmp_path):
    """DINO's own training head and a fine-tuned classifier both begin with `head.`."""
    model = drawn(VisionTransformer(num_classes=7, **TIMM))
    torch.save(model.state_dict(), tmp_path / "fine_tuned.pth")
    report = pc.create_model(preset(tmp_path, family="dino"), tmp_path / "fine_tuned.pth").load_report
    assert report.layout == "official"
    assert set(report.left_out.values()) == {"classifier of 7 classes, the model has none"}


def test_timm_deit3(tmp_path):
    model = drawn(VisionTransformer(num_classes=7, no_embed_class=True, init_values=1e-6, **TIMM))
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    expected = outputs(model, images(2, 48))
    check(preset(tmp_path, family="deit3"), tmp_path / "timm.pth", expected, "timm (LayerScale)")


def test_timm_distilled_deit_under_ddp(tmp_path):
    model = drawn(VisionTransformerDistilled(num_classes=7, **TIMM))
    torch.save(
        {"state_dict": {f"module.{n}": v for n, v in model.state_dict().items()}, "epoch": 3}, tmp_path / "x.pth"
    )
    expected = outputs(model, images(2, 48))
    check(preset(tmp_path, family="deit", distilled=True), tmp_path / "x.pth", expected, "official")


def test_timm_before_0_5_with_the_representation_layer(tmp_path):
    """timm v0.4.9's jx_*_in21k files: `pre_logits.fc`, which later versions dropped."""
    model = drawn(VisionTransformer(num_classes=0, **TIMM))
    fc, head = drawn(torch.nn.Linear(40, 40), seed=1), drawn(torch.nn.Linear(40, 7), seed=2)
    expected = outputs(torch.nn.Sequential(model, fc, torch.nn.Tanh(), head), images(2, 48))
    state = {**model.float().state_dict()}
    state.update({f"pre_logits.fc.{n}": v for n, v in fc.float().state_dict().items()})
    state.update({f"head.{n}": v for n, v in head.float().state_dict().items()})
    torch.save(state, tmp_path / "jx.pth")
    check(preset(tmp_path, family="vit", representation_size=40), tmp_path / "jx.pth", expected, "official")


@pytest.fixture
def dino_pair(tmp_path):
    """(preset, student, teacher): both with timm's names of the backbone, which are DINO's."""
    make = partial(VisionTransformer, num_classes=0, **TIMM)
    return preset(tmp_path, family="dino"), drawn(make(), seed=1), drawn(make(), seed=2)


def test_a_dino_training_checkpoint(tmp_path, dino_pair):
    """As main_dino.py saves it: the student under DDP, the teacher not, each with its projection head."""
    tiny, student, teacher = dino_pair
    head = {"head.mlp.0.weight": torch.zeros(8, 40), "head.last_layer.weight_g": torch.ones(16, 1)}

    def both(model, prefix):
        return {
            prefix + name: value for name, value in [*((f"backbone.{n}", v) for n, v in model.items()), *head.items()]
        }

    content = {
        "student": both(student.state_dict(), "module."),
        "teacher": both(teacher.state_dict(), ""),
        "epoch": 100,
    }
    torch.save(content, tmp_path / "full.pth")
    ours = check(tiny, tmp_path / "full.pth", outputs(teacher, images(2, 48)), "dino training")
    assert ours.load_report.entry == "teacher" and not ours.load_report.notes
    assert "projection head" in ours.load_report.left_out["head.mlp.0.weight"]
    expected = outputs(student, images(2, 48))
    ours = check(tiny, tmp_path / "full.pth", expected, "dino training", entry="student")
    assert ours.load_report.notes == [
        "these are the student's weights, while the presets dino_* and dinov2_* and their numbers are the teacher's"
    ]
    torch.save({"student": content["student"], "epoch": 3}, tmp_path / "student.pth")
    with pytest.raises(
        pc.WeightsError, match="holds the student alone, while the presets dino_.* the teacher's.* entry='student'"
    ):
        pc.create_model(tiny, tmp_path / "student.pth")


def test_a_dinov2_training_checkpoint(tmp_path):
    """Blocks in chunks for FSDP, numbered through; both heads beside them."""
    model = drawn(VisionTransformer(num_classes=0, init_values=1.0, **TIMM))
    state = {}
    for name, value in model.state_dict().items():
        block = name.split(".")[1] if name.startswith("blocks.") else None
        chunked = name.replace(f"blocks.{block}.", f"blocks.{int(block) // 2}.{block}.", 1) if block else name
        state[f"backbone.{chunked}"] = value
    state.update({"dino_head.mlp.0.weight": torch.zeros(3, 3), "backbone.mask_token": torch.zeros(1, 40)})
    torch.save({"teacher": state}, tmp_path / "teacher_checkpoint.pth")
    expected = outputs(model, images(2, 48))
    check(preset(tmp_path, family="dinov2"), tmp_path / "teacher_checkpoint.pth", expected, "dino training")


def paddle_state(state, linear):
    return {n: paddle.to_tensor(v.numpy().T.copy() if n in linear else v.numpy()) for n, v in state.items()}


@pytest.mark.parametrize("distilled", [False, True])
def test_paddle_ports(tmp_path, distilled):
    """Paddle-Image-Models and PaddleClas keep the names; PaddleViT has its own. All transpose every Linear weight."""
    model = drawn((VisionTransformerDistilled if distilled else VisionTransformer)(num_classes=7, **TIMM))
    tiny = preset(tmp_path, family="deit", distilled=distilled)
    expected = outputs(model, images(2, 48))
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    state = paddle_state(model.float().state_dict(), linear)
    paddle.save(state, str(tmp_path / "ppim.pdparams"))
    assert check(tiny, tmp_path / "ppim.pdparams", expected, "official").load_report.orientation.startswith("Paddle")
    theirs = {"pos_embed": "position_embedding", "patch_embed.proj": "patch_embedding.patch_embedding"}
    theirs |= {"blocks.": "encoder.layers.", ".norm1.": ".attn_norm.", ".norm2.": ".mlp_norm."}
    theirs |= {".attn.proj.": ".attn.out.", "head_dist.": "classifier_dist.", "head.": "classifier."}
    renamed = {}
    for name, value in state.items():
        for old, new in theirs.items():
            name = name.replace(old, new)
        renamed[f"encoder.encoder_{name}" if name.startswith("norm.") else name] = value
    paddle.save(renamed, str(tmp_path / "paddlevit.pdparams"))
    check(tiny, tmp_path / "paddlevit.pdparams", expected, "paddlevit")


@pytest.mark.parametrize(("family", "changes"), [("vit", {}), ("deit3", {}), ("dinov2", {"num_register_tokens": 4})])
@pytest.mark.parametrize("size", [32, 80])
def test_timms_other_sizes(tmp_path, family, changes, size):
    """timm's own rule, under its name: its loader's resampling at another size against ours."""
    from timm.layers import resample_abs_pos_embed

    registers = changes.get("num_register_tokens", 0)
    options = {**TIMM, "num_classes": 7 if family != "dinov2" else 0, "reg_tokens": registers}
    options.update(no_embed_class=family == "deit3" or registers > 0, init_values=None if family == "vit" else 1.0)
    model, other = drawn(VisionTransformer(**options)), VisionTransformer(**{**options, "img_size": size})
    state = dict(model.state_dict())
    prefix = 0 if options["no_embed_class"] else 1
    table = resample_abs_pos_embed(state["pos_embed"], [size // 16] * 2, num_prefix_tokens=prefix, verbose=False)
    other.load_state_dict({**state, "pos_embed": table})
    torch.save(state, tmp_path / "timm.pth")
    tiny = preset(tmp_path, family=family, **changes)
    ours = pc.create_model(tiny, tmp_path / "timm.pth", img_size=size, resample="timm")
    np.testing.assert_allclose(run(ours, images(2, size)), outputs(other.eval(), images(2, size)), atol=1e-5)
