"""The readers against torch.save in every format, and the writers against torch.load and the safetensors library."""

import argparse
import io
import pathlib
import runpy
from collections import OrderedDict

import numpy as np
import pytest

from paddle_cait.errors import WeightsError
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.safetensors_files import write_safetensors
from paddle_cait.weights.tensors import Inert, OutTensor, TensorRef, as_float32

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

make = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "weights" / "make_files.py"))

FORMATS = {
    "zip": {},
    "zip, protocol 4": {"pickle_protocol": 4},
    "legacy": {"_use_new_zipfile_serialization": False},
    "legacy, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}


def tensors():
    """Every dtype and every way a tensor can lie in its storage."""
    torch.manual_seed(0)
    drawn = torch.randn(6, 4, 5)
    flat = torch.arange(5000.0).reshape(50, 100)
    made = OrderedDict(
        drawn=drawn,
        transposed=drawn.transpose(0, 2),
        sliced=drawn[1:5:2, :, 3],
        row=flat[7],
        column=flat[:, 7],
        parameter=torch.nn.Parameter(torch.randn(3)),
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 4),
        channels_last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        tied=drawn,
    )
    for name in ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]:
        made[name] = (torch.randn(3, 7) * 50).to(getattr(torch, name))
    return made


def check(tree, expected):
    assert list(tree) == list(expected)
    for name, tensor in expected.items():
        ref = tree[name]
        assert isinstance(ref, TensorRef), name
        assert (ref.shape, f"torch.{ref.dtype}") == (tuple(tensor.shape), str(tensor.dtype)), name
        found = ref.read()
        if ref.dtype == "bfloat16":
            found, tensor = as_float32(found, "bfloat16"), tensor.float()
        np.testing.assert_array_equal(found, tensor.detach().numpy(), err_msg=name)


@pytest.mark.parametrize("kind", FORMATS)
def test_training_checkpoint(tmp_path, kind):
    made = tensors()
    whole = {
        "model": made,
        "args": argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/data")),
        "output": pathlib.Path("/out"),
        "best": np.float64(81.2),
        "last": np.float32(0.5),
        "size": torch.Size([2, 3]),
        "epoch": 299,
        "flag": True,
        "none": None,
        "ints": [-1, 255, 65536, -(2**40), 10**30],
        "text": "中文",
    }
    torch.save(whole, tmp_path / "a.pth", **FORMATS[kind])
    with open_checkpoint(tmp_path / "a.pth") as found:
        assert found.format == ("pth-legacy" if "legacy" in kind else "pth-zip")
        check(found.tree["model"], made)
        assert found.tree["args"] == Inert("argparse.Namespace")
        assert found.tree["output"].name == "pathlib.Path"
        for name in ("best", "last", "size", "epoch", "flag", "none", "ints", "text"):
            assert found.tree[name] == whole[name]


@pytest.mark.parametrize("kind", FORMATS)
def test_optimizer_and_module_state(tmp_path, kind):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    whole = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(whole, tmp_path / "a", **FORMATS[kind])
    with open_checkpoint(tmp_path / "a") as found:
        check(found.tree["state_dict"], model.state_dict())
        assert found.tree["optimizer"]["param_groups"][0]["params"] == [0, 1, 2, 3]
        check(found.tree["optimizer"]["state"][0], optimizer.state_dict()["state"][0])


def test_without_crc(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(tensors(), tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    with open_checkpoint(tmp_path / "a.pth") as found:
        check(found.tree, tensors())


def test_big_endian(tmp_path):
    before = torch.serialization.get_default_load_endianness()
    (tmp_path / "a.pth").write_bytes(make["pth_zip"](make["training_tree"](), byteorder="big"))
    loaded = torch.load(tmp_path / "a.pth", weights_only=False)["model"]
    assert torch.serialization.get_default_load_endianness() == before
    with open_checkpoint(tmp_path / "a.pth") as found:
        check(found.tree["model"], loaded)


@pytest.mark.parametrize("write", ["pth_zip", "pth_legacy"])
def test_torch_reads_our_test_files(tmp_path, write):
    """The torch-free tests use files that PyTorch itself accepts."""
    (tmp_path / "a").write_bytes(make[write](make["training_tree"]()))
    loaded = torch.load(tmp_path / "a", weights_only=False)["model"]
    for name, array in make["expected_training_arrays"]().items():
        if name != "bfloat16":
            np.testing.assert_array_equal(loaded[name].detach().numpy(), array)


def test_expanded_tensors_whole_models_and_programs_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(1).expand(1000)}, path)
    with pytest.raises(WeightsError, match=r"'a': shape .* save it with \.contiguous"):
        open_checkpoint(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear.*nothing was executed"):
        open_checkpoint(path)
    torch.save({"a": torch.ones(2, dtype=torch.complex64)}, path)
    with pytest.raises(WeightsError, match=r"torch\.ComplexFloatStorage"):
        open_checkpoint(path)


def test_safetensors_of_the_library(tmp_path):
    made = {name: tensor.contiguous() for name, tensor in tensors().items() if name not in ("tied", "parameter")}
    safetensors_torch.save_file(made, tmp_path / "a.safetensors", {"format": "pt", "note": 'a "b"\n中'})
    with open_checkpoint(tmp_path / "a.safetensors") as found:
        assert found.metadata == {"format": "pt", "note": 'a "b"\n中'}
        check({name: found.tree[name] for name in made}, made)


def test_safetensors_bytes_are_the_librarys():
    arrays = dict(make["arrays"]())
    arrays['a "quoted"\x01 名'] = np.ones(1, np.float64)
    made = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    bits = np.array([0x3F80, 0xC000], np.uint16)
    made["half"] = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    out = [OutTensor(name, array.shape, array.dtype.name, lambda array=array: array) for name, array in arrays.items()]
    out.append(OutTensor("half", (2,), "bfloat16", lambda: bits))
    for metadata in ({}, {"format": "pd"}):
        file = io.BytesIO()
        write_safetensors(file, out, metadata)
        assert file.getvalue() == safetensors_torch.save(made, metadata or None)
