"""ONNX models: every parameter under its PyTorch name and in PyTorch's orientation, lazily; hostile ones are refused.

The models here imitate what torch.onnx.export writes; tests/oracles/test_onnx_files.py has it write them.
"""

import os
import time
import tracemalloc
from contextlib import closing

import hostile_archives
import hostile_onnx as make
import numpy as np
import pytest
from hostile_onnx import constant, external, head, model, node, tensor
from test_hostile import read_everything

from paddle_cait.errors import WeightsError
from paddle_cait.weights.byte_source import ByteSource
from paddle_cait.weights.onnx_files import is_onnx
from paddle_cait.weights.readers import open_checkpoint

pytestmark = pytest.mark.light

HOSTILE = make.hostile()
A = np.arange(12, dtype=np.float32).reshape(3, 4)
B = A.reshape(4, 3) + 100
BIAS = np.arange(4, dtype=np.float32)
SIDE = b"12345678" + A.tobytes()


@pytest.fixture
def read(tmp_path):
    """(nodes, tensors) -> the arrays that the reader finds in such a model."""

    def read(nodes, tensors):
        path = tmp_path / "model.onnx"
        path.write_bytes(model(nodes, tensors))
        with open_checkpoint(path) as found:
            read.metadata = found.metadata
            arrays = {name: ref.read() for name, ref in found.tree.items()}
            for name, ref in found.tree.items():
                assert (ref.name, ref.shape, ref.nbytes) == (name, arrays[name].shape, arrays[name].nbytes)
                assert arrays[name].flags.c_contiguous
            return arrays

    return read


def check(found, expected):
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_parameters_keep_their_names(read):
    nodes = [
        node("Identity", ["a.norm.weight"], "b.norm.weight"),
        constant("/Constant_output_0", tensor("", np.float32([1, 2]))),
        constant("c.scale", tensor("", BIAS)),
    ]
    tensors = [
        tensor("cls_token", A.reshape(1, 1, 12)),
        tensor("a.norm.weight", BIAS),
        tensor("head.0.weight", A),
        tensor("logit_scale", np.array(4.5, np.float32)),
        tensor("attn.index", np.array([3, -1])),
        tensor("axes", np.array([1])),
        tensor("onnx::Unsqueeze_7", np.array([0])),
        tensor("/a/Constant_output_0", BIAS),
    ]
    expected = {"cls_token": A.reshape(1, 1, 12), "a.norm.weight": BIAS, "b.norm.weight": BIAS, "head.0.weight": A}
    expected |= {"logit_scale": np.float32(4.5), "attn.index": np.array([3, -1]), "c.scale": BIAS}
    check(read(nodes, tensors), expected)
    assert read.metadata == {"producer": "pytorch 2.7.0", "left_out": "'/a/Constant_output_0' [4]"}


@pytest.mark.parametrize("typed", [False, True])
def test_every_dtype(read, typed):
    draw = np.random.default_rng(0)
    arrays = {f"t.{kind}": draw.standard_normal((3, 5)).astype(kind) for kind in ("float64", "float32", "float16")}
    for kind in ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"):
        limits = np.iinfo(kind)
        arrays[f"t.{kind}"] = np.array([limits.min, limits.max, 7], kind)
    arrays |= {"t.bool": np.array([True, False]), "t.scalar": np.float32(2.5), "t.empty": np.zeros((0, 3), np.float32)}
    arrays["t.none"] = np.zeros((2, 0), np.int64)
    bits = np.array([0x3F80, 0xC000], np.uint16)
    tensors = [tensor(name, np.asarray(array), typed=typed) for name, array in arrays.items()]
    tensors.append(tensor("t.bfloat16", bits, "bfloat16", typed))
    check(read([], tensors), {**arrays, "t.bfloat16": bits})


def test_packed_numbers_across_pieces(read, monkeypatch):
    monkeypatch.setattr("paddle_cait.weights.protobuf._PIECE", 16)
    values = np.array([0, 127, 128, 1 << 40, -1, -(1 << 63), 5] * 9)
    halves = np.random.default_rng(0).standard_normal((7, 9)).astype(np.float16)
    tensors = [tensor("a.b", values, typed=True), tensor("3", halves, typed=True)]
    found = read([node("MatMul", ["x", "3"], name="/fc/MatMul")], tensors)
    check(found, {"a.b": values, "fc.weight": halves.T})


def test_sizes_may_be_packed(read):
    check(read([], [[(1, b"\3\4"), *head("a.b", []), (9, A.tobytes())]]), {"a.b": A})


LINEAR = {
    "named by its bias": (
        [node("MatMul", ["x", "onnx::MatMul_9"], "p"), node("Add", ["p", "fc.bias"], "y")],
        {"fc.weight": A.T, "fc.bias": BIAS},
    ),
    "bias first, in a Sequential": (
        [
            node("MatMul", ["x", "onnx::MatMul_9"], name="/net/net.0/fc/MatMul"),
            node("Add", ["net.0.fc.bias", "/net/net.0/fc/MatMul_output_0"], name="/net/net.0/fc/Add"),
        ],
        {"net.0.fc.weight": A.T, "net.0.fc.bias": BIAS},
    ),
    "without bias": ([node("MatMul", ["x", "onnx::MatMul_9"], name="/a/fc/MatMul")], {"a.fc.weight": A.T}),
    "the outermost module": ([node("MatMul", ["x", "onnx::MatMul_9"], name="/MatMul")], {"weight": A.T}),
    "named by its output": ([node("MatMul", ["x", "onnx::MatMul_9"], "/fc/MatMul_output_0")], {"fc.weight": A.T}),
    "a functional one": (
        [
            node("Softmax", ["x"], name="/attn/Softmax"),
            node("MatMul", ["x", "onnx::MatMul_9"], name="/attn/MatMul"),
            node("Add", ["/attn/MatMul_output_0", "attn.in_proj_bias"], name="/attn/Add"),
        ],
        {"attn.in_proj_weight": A.T, "attn.in_proj_bias": BIAS},
    ),
    "a bias of the module around": (
        [
            node("MatMul", ["x", "onnx::MatMul_9"], name="/a/fc/MatMul"),
            node("Add", ["/a/fc/MatMul_output_0", "a.own_bias"], name="/a/Add"),
        ],
        {"a.fc.weight": A.T, "a.own_bias": BIAS},
    ),
    "Gemm": (
        [node("Gemm", ["x", "onnx::MatMul_9", "fc.bias"], "y", trans_b=0)],
        {"fc.weight": A.T, "fc.bias": BIAS},
    ),
    "Gemm without transB": ([node("Gemm", ["x", "onnx::MatMul_9"], name="/fc/Gemm")], {"fc.weight": A.T}),
    "Gemm with transB": ([node("Gemm", ["x", "onnx::MatMul_9"], name="/fc/Gemm", trans_b=1)], {"fc.weight": A}),
    "called again": (
        [
            node("Identity", ["onnx::MatMul_9"], "onnx::MatMul_10"),
            node("MatMul", ["x", "onnx::MatMul_9"], name="/a/fc_1/MatMul"),
            node("MatMul", ["y", "onnx::MatMul_10"], name="/a/fc_1_3/MatMul"),
        ],
        {"a.fc_1.weight": A.T},
    ),
    "shared by two modules": (
        [
            node("MatMul", ["x", "onnx::MatMul_9"], name="/a/MatMul"),
            node("MatMul", ["y", "onnx::MatMul_9"], name="/b/MatMul"),
        ],
        {"a.weight": A.T, "b.weight": A.T},
    ),
}


@pytest.mark.parametrize("kind", LINEAR)
def test_folded_matrices_of_linear(read, kind):
    nodes, expected = LINEAR[kind]
    tensors = [tensor("onnx::MatMul_9", A)]
    tensors += [tensor(name, array) for name, array in expected.items() if array is BIAS]
    check(read(nodes, tensors), expected)
    assert "left_out" not in read.metadata


NO_LINEAR = {
    "a scope with other nodes": [
        node("MatMul", ["x", "onnx::MatMul_9"], name="/attn/MatMul"),
        node("Add", ["/attn/MatMul_output_0", "onnx::Add_1"], name="/attn/Add"),
        node("MatMul", ["x", "y"], name="/attn/proj/MatMul"),
        node("Softmax", ["x"], name="/attn/proj/act/Softmax"),
    ],
    "no scope, no bias": [node("MatMul", ["x", "onnx::MatMul_9"], "y", "MatMul_3")],
    "a bias of another width": [
        node("MatMul", ["x", "onnx::MatMul_9"], "p"),
        node("Add", ["p", "fc.bias"], "y"),
    ],
    "two biases": [
        node("MatMul", ["x", "onnx::MatMul_9"], "p"),
        node("Add", ["p", "norm1.bias"], "y"),
        node("Add", ["p", "norm2.bias"], "z"),
    ],
    "left operand": [node("MatMul", ["onnx::MatMul_9", "x"], name="/fc/MatMul")],
    "a convolution": [node("Conv", ["x", "onnx::MatMul_9"], name="/conv/Conv")],
    "another domain's": [node("MatMul", ["x", "onnx::MatMul_9"], name="/fc/MatMul", domain="mine")],
}


@pytest.mark.parametrize("kind", NO_LINEAR)
def test_what_has_no_certain_name_is_left_out(read, kind):
    biases = {"fc.bias": A[0, :3], "norm1.bias": BIAS, "norm2.bias": BIAS}
    found = read(NO_LINEAR[kind], [tensor("onnx::MatMul_9", A), *(tensor(n, b) for n, b in biases.items())])
    check(found, biases)
    assert read.metadata["left_out"] == "'onnx::MatMul_9' [3, 4]"


def test_two_tensors_that_claim_one_name_have_none(read):
    nodes = [node("MatMul", ["x", str(i)], name=f"/fc/MatMul_{i}") for i in range(2)]
    check(read(nodes, [tensor("0", A), tensor("1", B), tensor("a.b", BIAS)]), {"a.b": BIAS})
    assert read.metadata["left_out"] == "'0' [3, 4], '1' [4, 3]"
    check(read(nodes[:1], [tensor("0", A), tensor("fc.weight", BIAS)]), {"fc.weight": BIAS})


def test_a_list_named_like_the_module_around_it(read):
    nodes = [node("MatMul", ["x", "0"], name="/layer/layer.0/fc/MatMul")]
    norms = [tensor("layer.layer.0.norm.weight", BIAS)]
    assert "layer.layer.0.fc.weight" in read(nodes, [tensor("0", A), *norms])
    assert "layer.0.fc.weight" in read(nodes, [tensor("0", A), *norms, tensor("layer.0.norm.weight", BIAS)])


@pytest.mark.parametrize("scope", ["/backbone/embeddings/", "/", "/backbone/"])
@pytest.mark.parametrize("form", ["tokens", "grid", "channels first"])
def test_a_position_table_in_two_pieces(read, scope, form):
    table = np.random.default_rng(0).standard_normal((1, 2 + 6, 4)).astype(np.float32)
    grid = table[:, 2:].reshape(1, 2, 3, 4)
    pieces = {"tokens": table[:, 2:], "grid": grid, "channels first": grid.transpose(0, 3, 1, 2).copy()}
    steps = {"tokens": ["Reshape", "Transpose", "Cast"], "grid": ["Transpose"], "channels first": ["Cast"]}
    nodes, value = [], "onnx::Reshape_2"
    for i, op in enumerate([*steps[form], "Resize", "Cast", "Transpose", "Reshape"]):
        nodes.append(node(op, [value, ""], name=f"{scope}{op}_{i}"))
        value = f"{scope}{op}_{i}_output_0"
    nodes.append(node("Concat", ["onnx::Concat_1", value], name=f"{scope}Concat"))
    found = read(nodes, [tensor("onnx::Concat_1", table[:, :2]), tensor("onnx::Reshape_2", pieces[form])])
    names = {"/": "pos_embed", "/backbone/": "backbone.pos_embed"}
    check(found, {names.get(scope, "backbone.embeddings.position_embeddings"): table})


@pytest.mark.parametrize(
    "first, rest, steps, named",
    [
        ((1, 1, 4), (1, 4, 1, 3), ["Resize"], True),
        ((1, 1, 0), (1, 0, 2, 2), ["Resize"], True),
        ((1, 1, 4), (1, 4, 1, 3), [], False),
        ((1, 1, 4), (1, 4, 1, 3), ["Relu", "Resize"], False),
        ((1, 1, 4), (1, 4, 1, 3), ["Reshape"] * 30 + ["Resize"], False),
        ((1, 1, 3), (1, 4, 1, 3), ["Resize"], False),
        ((2, 1, 4), (2, 4, 1, 3), ["Resize"], False),
        ((1, 4), (1, 4, 1, 3), ["Resize"], False),
        ((1, 1, 4), (3, 4), ["Resize"], False),
        ((1, 1, 4), (), ["Resize"], False),
    ],
)
def test_pieces_that_are_a_table_or_not(read, first, rest, steps, named):
    nodes, value = [], "onnx::Reshape_2"
    for i, op in enumerate(steps):
        nodes.append(node(op, [value], value := f"/{i}"))
    nodes.append(node("Concat", ["onnx::Concat_1", value], name="/Concat"))
    tensors = [tensor("onnx::Concat_1", np.ones(first)), tensor("onnx::Reshape_2", np.ones(rest)), tensor("a.w", A)]
    assert sorted(read(nodes, tensors)) == (["a.w", "pos_embed"] if named else ["a.w"])


def write_external(folder, data=SIDE, location="model.onnx.data", **entries):
    folder.mkdir(exist_ok=True)
    entries = {"offset": 8, "length": A.nbytes, **entries}
    nodes = [node("MatMul", ["x", "0"], name="/fc/MatMul")]
    tensors = [external(name, [3, 4], location=location, **entries) for name in ("0", "a.w")]
    (folder / "model.onnx").write_bytes(model(nodes, tensors))
    if data is not None:
        (folder / location).parent.mkdir(exist_ok=True)
        (folder / location).write_bytes(data)
    return folder / "model.onnx"


@pytest.mark.parametrize("location", ["model.onnx.data", "weights/a b.bin", "./x.bin"])
def test_external_data(tmp_path, monkeypatch, location):
    path = write_external(tmp_path / "model", location=location)
    monkeypatch.chdir(path.parent)
    for name in (path, path.name):
        with open_checkpoint(name) as found:
            check({name: ref.read() for name, ref in found.tree.items()}, {"fc.weight": A.T, "a.w": A})
    with pytest.raises(WeightsError, match="is closed"):
        found.tree["a.w"].read()


def test_external_data_that_is_missing_or_elsewhere(tmp_path):
    folder = tmp_path / "model"
    (tmp_path / "outside").write_bytes(bytes(100))
    with pytest.raises(WeightsError, match=r"model\.onnx: tensor 'a\.w': .*'model\.onnx\.data', which is not beside"):
        open_checkpoint(write_external(folder, None))
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / "ring").symlink_to(folder / "ring")
    for location in ("link", "folder/outside", "pipe", "ring"):
        with pytest.raises(WeightsError, match=rf"model\.onnx: tensor 'a\.w': .*{location}"):
            open_checkpoint(write_external(folder, None, location))
    (folder / "inside").symlink_to(folder / "real")
    (folder / "real").write_bytes(bytes(56))
    with open_checkpoint(write_external(folder, None, "inside")) as found:
        assert not found.tree["a.w"].read().any()
    with pytest.raises(WeightsError, match=r"8 bytes are missing in 'inside'"):
        open_checkpoint(write_external(folder, None, "inside", offset=16))


def test_a_side_file_cut_after_opening(tmp_path):
    path = write_external(tmp_path / "model")
    with open_checkpoint(path) as found:
        os.truncate(tmp_path / "model" / "model.onnx.data", 20)
        with pytest.raises(WeightsError, match=r"model\.onnx\.data: ends .* bytes too early"):
            found.tree["a.w"].read()


def test_a_large_model_is_not_read_to_open_it(tmp_path):
    """A sparse file of 1.8 GB: two tensors in front of a hole that is a third one's data."""
    size, path = 1_800_000_000, tmp_path / "large.onnx"
    raw = make.Raw(make.varint(9 << 3 | 2) + make.varint(size))
    last = make.encode([*head("big.w", [size // 4]), (9, raw)])
    graph = make.encode(make.graph([], [tensor("a.w", A)]))
    opening = make.varint(5 << 3 | 2) + make.varint(len(last) + size) + last
    start = make.encode([(1, 8), (8, [(2, 17)])]) + make.varint(7 << 3 | 2) + make.varint(len(graph + opening) + size)
    path.write_bytes(start + graph + opening)
    os.truncate(path, path.stat().st_size + size)
    tracemalloc.start()
    begun = time.perf_counter()
    with open_checkpoint(path) as found:
        assert found.tree["big.w"].nbytes == size
        np.testing.assert_array_equal(found.tree["a.w"].read(), A)
    assert time.perf_counter() - begun < 2
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    path.unlink()


@pytest.mark.parametrize("typed", [False, True])
def test_memory_beside_a_tensor_stays_small(tmp_path, typed):
    values = np.random.default_rng(0).standard_normal((3000, 2000)).astype(np.float16)
    if typed:
        values = values[:200]
    tensors = [tensor("0", values, typed=typed), tensor("a.w", values, typed=typed)]
    (tmp_path / "a").write_bytes(model([node("MatMul", ["x", "0"], name="/fc/MatMul")], tensors))
    with open_checkpoint(tmp_path / "a") as found:
        for name, expected in (("a.w", values), ("fc.weight", values.T)):
            tracemalloc.start()
            array = found.tree[name].read()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < array.nbytes + (24 << 20)
            np.testing.assert_array_equal(array, expected)


def test_fields_may_come_in_any_order(tmp_path):
    path = tmp_path / "a"
    shuffled = make.good()[::-1]
    shuffled[0] = (7, shuffled[0][1][::-1])
    path.write_bytes(make.encode([(5, 3), (14, [(1, "a"), (2, "b")]), *shuffled, (6, "text"), (99, 1)]))
    with open_checkpoint(path) as found:
        reordered = {name: ref.read() for name, ref in found.tree.items()}
    path.write_bytes(make.encode(make.good()))
    with open_checkpoint(path) as found:
        assert found.format == "onnx"
        check(reordered, {name: ref.read() for name, ref in found.tree.items()})


def test_other_formats_are_not_mistaken(tmp_path):
    path = tmp_path / "a"
    others = hostile_archives.valid()
    others["TensorFlow SavedModel"] = make.encode([(1, 1), (2, [(1, [(5, "serve")])])])
    others["Core ML"] = make.encode([(1, 7), (2, [(1, "x")]), (500, [(1, "layer")])])
    others["Caffe"] = make.encode([(1, "net"), (7, 1), (100, [(1, "conv")])])
    others["Paddle program"] = make.encode([(1, [(1, 0), (2, 1)]), (4, [(1, 2)])])
    others["text"] = b":abc (a version, a graph)\n" * 20
    for kind, data in others.items():
        path.write_bytes(data)
        assert not recognised(path), kind
    whole = make.encode(make.good())
    for data in (whole, whole[:-1], whole + b"\0", whole[:200]):
        path.write_bytes(data)
        assert recognised(path)


def recognised(path):
    with closing(ByteSource(path)) as source:
        return is_onnx(source)


def test_a_model_cut_short(tmp_path):
    """Without a byte of its graph it may be anything."""
    path = tmp_path / "a"
    whole = make.encode(make.good())
    graph = whole.index(b"\x42\x04") + 6
    for end in {*range(0, len(whole), 5), *range(graph - 5, graph + 60), *range(len(whole) - 30, len(whole))}:
        path.write_bytes(whole[:end])
        with pytest.raises(WeightsError, match="bytes are missing; download" if end > graph else "download|unknown"):
            read_everything(path)


@pytest.mark.parametrize(
    "name, message",
    {
        "graph beyond the file": "cut short: at least 20 bytes are missing",
        "quantised weights": "is quantised .*DequantizeLinear.* give the float model",
        "fused for a runtime": "com.microsoft::Attention.* as PyTorch exported it",
        "nothing has a name": "export the model with torch.onnx.export",
        "dtype float8": "'a.b': data type 17, expected one of float32",
        "external: above": "'a.b': external data in '../weights.bin', expected a file in the model's folder",
    }.items(),
)
def test_the_line_says_what_to_do(tmp_path, name, message):
    path = tmp_path / "hostile"
    path.write_bytes(HOSTILE[name]())
    with pytest.raises(WeightsError, match=message):
        open_checkpoint(path)
