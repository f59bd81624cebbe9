"""The ONNX reader against torch.onnx.export: every parameter of the state dict that is in the graph, bit for bit."""

import io
import runpy
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the exporter is PyTorch's: make oracles")
onnx = pytest.importorskip("onnx", reason="torch.onnx.export needs it: make oracles")
timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

from torch import nn  # noqa: E402

from paddle_cait.errors import WeightsError  # noqa: E402
from paddle_cait.weights.readers import open_checkpoint  # noqa: E402
from paddle_cait.weights.tensors import as_float32  # noqa: E402

make = runpy.run_path(str(Path(__file__).parents[1] / "weights" / "hostile_onnx.py"))

TOKENS = torch.zeros(2, 5, 8)
IMAGES = torch.zeros(2, 3, 32, 32)
SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 7}
HF_SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}
ANY_SIZE = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch", 2: "height", 3: "width"}}}


class LayerScale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.gamma


class Shared(nn.Module):
    """One weight in two layers, layers called again: their nodes are ``/d_1/MatMul``, ``/d_1_1/MatMul``."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.d_1 = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.b.weight = self.a.weight
        self.net = nn.Sequential(nn.Linear(8, 8, bias=False), nn.GELU())

    def forward(self, x):
        return self.net(self.d_1(self.net(self.d_1(self.b(self.a(x))))))


class Interpolating(nn.Module):
    """The position table as the authors of DINO and DINOv2 use it."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 24))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + 16, 24))
        self.proj = nn.Conv2d(3, 24, 8, 8)

    def forward(self, x):
        size = [int(side) // 8 for side in x.shape[2:]]
        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        table = self.pos_embed[:, 1:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
        table = nn.functional.interpolate(table, scale_factor=[(n + 0.1) / 4 for n in size], mode="bicubic")
        return x + torch.cat((self.pos_embed[:, 0].unsqueeze(0), table.permute(0, 2, 3, 1).view(1, -1, 24)), dim=1)


def drawn(model, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1)
    return model.eval()


def export(model, x, path, **options):
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # this exporter is called legacy, and says which sizes it makes constant
        torch.onnx.export(model, x, str(path), dynamo=False, **options)
    return path


def check(path, model, unused=()):
    """All of the state dict but what the graph does not use, and nothing else."""
    state = {name: value for name, value in model.state_dict().items() if name not in unused}
    with open_checkpoint(path) as found:
        assert found.format == "onnx" and found.metadata["producer"].startswith("pytorch")
        assert sorted(found.tree) == sorted(state)
        for name, tensor in state.items():
            ref = found.tree[name]
            assert (ref.shape, f"torch.{ref.dtype}") == (tuple(tensor.shape), str(tensor.dtype)), name
            array = ref.read()
            if ref.dtype == "bfloat16":
                array, tensor = as_float32(array, "bfloat16"), tensor.float()
            np.testing.assert_array_equal(array, tensor.numpy(), err_msg=name)
        return found.metadata


def torchvision_vit():
    return sys.modules["torchvision"].models.VisionTransformer(32, 8, 2, 3, 24, 48, num_classes=7)


MODELS = {
    "Linear": (lambda: nn.Linear(8, 6), TOKENS),
    "Linear of vectors": (lambda: nn.Linear(8, 6), TOKENS[0]),
    "Linear without bias": (lambda: nn.Linear(8, 6, bias=False), TOKENS),
    "vectors without bias": (lambda: nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU()), TOKENS[0]),
    "LayerNorm": (lambda: nn.LayerNorm(8), TOKENS),
    "Conv": (lambda: nn.Conv2d(3, 4, 3), IMAGES),
    "LayerScale": (lambda: nn.Sequential(nn.Linear(8, 8), LayerScale(8)), TOKENS),
    "Sequentials": (
        lambda: nn.Sequential(nn.Linear(8, 8, False), nn.Sequential(nn.GELU(), nn.Linear(8, 8, False))),
        TOKENS,
    ),
    "shared": (Shared, TOKENS),
    "interpolating": (Interpolating, torch.zeros(2, 3, 48, 48)),
    "timm vit": (lambda: timm.models.vision_transformer.VisionTransformer(**SIZES, init_values=0.1), IMAGES),
    "timm vit without biases": (
        lambda: timm.models.vision_transformer.VisionTransformer(**SIZES, qkv_bias=False, proj_bias=False),
        IMAGES,
    ),
    "timm deit": (lambda: timm.models.deit.VisionTransformerDistilled(**SIZES), IMAGES),
    "timm cait": (lambda: timm.models.cait.Cait(**SIZES), IMAGES),
    "torchvision vit": (torchvision_vit, IMAGES),
    "ViTModel": (
        lambda: transformers.ViTModel(transformers.ViTConfig(**HF_SIZES, intermediate_size=48)),
        IMAGES,
    ),
    "Dinov2Model": (lambda: transformers.Dinov2Model(transformers.Dinov2Config(**HF_SIZES)), IMAGES),
}
UNUSED = {"Dinov2Model": ["embeddings.mask_token"]}


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter(tmp_path, name):
    build, x = MODELS[name]
    model = drawn(build())
    assert "left_out" not in check(export(model, x, tmp_path / "a.onnx"), model, UNUSED.get(name, ()))


@pytest.mark.parametrize(
    "options",
    [
        {"opset_version": 14},  # LayerNorm in nine nodes
        {"do_constant_folding": False},
        {"keep_initializers_as_inputs": True},
        {"training": torch.onnx.TrainingMode.TRAINING},
    ],
    ids=lambda options: next(iter(options)),
)
def test_exporter_options(tmp_path, options):
    model = drawn(timm.models.vision_transformer.VisionTransformer(**SIZES))
    check(export(model, IMAGES, tmp_path / "a.onnx", **options), model)


def test_equal_parameters(tmp_path):
    """A model as initialised: norms and biases are equal, and the exporter stores them once."""
    model = timm.models.vision_transformer.VisionTransformer(**SIZES).eval()
    path = export(model, IMAGES, tmp_path / "a.onnx")
    assert any(node.op_type == "Identity" for node in onnx.load(path).graph.node)
    check(path, model)


@pytest.mark.parametrize("name", ["interpolating", "Dinov2Model"])
def test_any_image_size(tmp_path, name):
    build, x = MODELS[name]
    model = drawn(build())
    check(export(model, x, tmp_path / "a.onnx", **ANY_SIZE), model, UNUSED.get(name, ()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_exported_in_another_dtype(tmp_path, dtype):
    model = drawn(nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 6, bias=False))).to(dtype)
    check(export(model, TOKENS.to(dtype), tmp_path / "a.onnx"), model)


@pytest.mark.parametrize("typed", [False, True])
def test_converted_to_half_precision(tmp_path, typed):
    """Initialisers converted one by one, as float16 converters do: in raw_data, or as int32_data."""
    model = drawn(nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6)))
    whole = onnx.load(export(model, TOKENS, tmp_path / "a.onnx"))
    for tensor in whole.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        made = onnx.helper.make_tensor(tensor.name, onnx.TensorProto.FLOAT16, values.shape, values.tobytes(), raw=True)
        if typed:
            flat = values.reshape(-1).tolist()
            made = onnx.helper.make_tensor(tensor.name, onnx.TensorProto.FLOAT16, values.shape, flat)
            assert len(made.int32_data) == values.size
        tensor.CopyFrom(made)
    onnx.save(whole, tmp_path / "half.onnx")
    check(tmp_path / "half.onnx", model.half())


def test_external_data(tmp_path):
    model = drawn(timm.models.vision_transformer.VisionTransformer(**SIZES))
    path = export(model, IMAGES, tmp_path / "a.onnx")
    for i, options in enumerate(({"location": "weights.bin"}, {}, {"all_tensors_to_one_file": False})):
        folder = tmp_path / str(i)
        folder.mkdir()
        onnx.save(onnx.load(path), folder / "a.onnx", save_as_external_data=True, size_threshold=0, **options)
        assert len(list(folder.iterdir())) >= 2
        check(folder / "a.onnx", model)
    (tmp_path / "0" / "weights.bin").unlink()
    with pytest.raises(WeightsError, match=r"'weights\.bin', which is not beside the model"):
        open_checkpoint(tmp_path / "0" / "a.onnx")


def test_every_dtype_of_the_onnx_package(tmp_path):
    draw = np.random.default_rng(0)
    arrays = {name: draw.standard_normal((3, 5)).astype(name) for name in ("float64", "float32", "float16")}
    for name in ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"):
        limits = np.iinfo(name)
        arrays[name] = np.array([[limits.min, limits.max, 7]], name)
    arrays |= {"bool": np.array([True, False]), "scalar": np.array(1.5), "empty": np.zeros((0, 3), np.float32)}
    tensors = []
    for name, array in arrays.items():
        code = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        tensors.append(onnx.numpy_helper.from_array(array, f"raw.{name}"))
        tensors.append(onnx.helper.make_tensor(f"typed.{name}", code, array.shape, array.reshape(-1).tolist()))
    tensors.append(onnx.helper.make_tensor("typed.bfloat16", onnx.TensorProto.BFLOAT16, [2], [1.0, -2.5]))
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "a", [], [], tensors)), tmp_path / "a.onnx")
    with open_checkpoint(tmp_path / "a.onnx") as found:
        assert as_float32(found.tree.pop("typed.bfloat16").read(), "bfloat16").tolist() == [1.0, -2.5]
        assert len(found.tree) == 2 * len(arrays)
        for name, ref in found.tree.items():
            expected = arrays[name.partition(".")[2]]
            assert (ref.shape, ref.dtype) == (expected.shape, expected.dtype.name)
            np.testing.assert_array_equal(ref.read(), expected, err_msg=name)


def test_results_of_arithmetic_are_left_out(tmp_path):
    """BatchNorm folded into a convolution, q, k and v biases joined in the forward pass, a norm without parameters."""
    model = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)))
    unused = [name for name in model.state_dict() if not name.startswith("2.")]
    assert "Conv" in check(export(model, IMAGES, tmp_path / "a.onnx"), model, unused)["left_out"]
    model = drawn(timm.models.beit.Beit(**SIZES))
    unused = [f"blocks.{i}.attn.{name}" for i in range(2) for name in ("qkv.weight", "q_bias", "v_bias")]
    left_out = check(export(model, IMAGES, tmp_path / "a.onnx"), model, unused)["left_out"]
    assert left_out.count("MatMul") == left_out.count("Add") == 2
    model = drawn(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8, elementwise_affine=False)))
    check(export(model, TOKENS, tmp_path / "a.onnx"), model)


def test_processed_models_are_refused(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    quantization = pytest.importorskip("onnxruntime.quantization")
    model = drawn(timm.models.vision_transformer.VisionTransformer(**SIZES))
    path = export(model, IMAGES, tmp_path / "a.onnx")
    quantization.quantize_dynamic(path, tmp_path / "quantised.onnx")
    with pytest.raises(WeightsError, match="is quantised"):
        open_checkpoint(tmp_path / "quantised.onnx")
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    runtime.InferenceSession(path, options)
    with pytest.raises(WeightsError, match="was rewritten for ONNX Runtime"):
        open_checkpoint(tmp_path / "optimised.onnx")


def test_the_onnx_package_reads_our_test_files():
    """The tests that need no exporter use files that the onnx package itself accepts."""
    model = onnx.load_model_from_string(make["encode"](make["good"]()))
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert found["blocks.0.index"].tolist() == [-1, 2] and found["head.bias"].dtype == np.float16
    assert found["head.weight"].tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert [node.op_type for node in model.graph.node][:2] == ["Constant", "Identity"]
