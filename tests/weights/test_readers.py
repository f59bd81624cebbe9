"""Every format is read exactly, lazily and by its content; broken and foreign files get one clear line."""

import os
import pickle
import struct
import threading
from pathlib import Path

import make_files as make
import numpy as np
import pytest

from paddle_cait.errors import WeightsError
from paddle_cait.weights import strided
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.tensors import Inert, TensorRef, as_float32

pytestmark = pytest.mark.light


def check_arrays(tree, expected):
    assert list(tree) == list(expected)
    for name, array in expected.items():
        ref = tree[name]
        found = ref.read()
        assert (ref.shape, ref.nbytes) == (array.shape, array.nbytes), name
        assert found.flags.c_contiguous and found.dtype.name == array.dtype.name, name
        np.testing.assert_array_equal(found, array, err_msg=name)


@pytest.mark.parametrize("kind", ["pth-zip", "pth-zip big", "pth-zip 4", "pth-legacy"])
def test_torch_training_checkpoint(saved, kind):
    tree = make.training_tree()
    writers = {
        "pth-zip": lambda: make.pth_zip(tree, root="any name"),
        "pth-zip big": lambda: make.pth_zip(tree, byteorder="big"),
        "pth-zip 4": lambda: make.pth_zip(tree, protocol=4),
        "pth-legacy": lambda: make.pth_legacy(tree),
    }
    with open_checkpoint(saved(writers[kind]())) as found:
        assert found.format == kind.split()[0]
        check_arrays(found.tree["model"], make.expected_training_arrays())
        assert found.tree["model"]["sliced"].name == "model.sliced"
        assert found.tree["model"]["bfloat16"].dtype == "bfloat16"
        rest = {key: value for key, value in found.tree.items() if key != "model"}
    assert rest == {
        "optimizer": tree["optimizer"],
        "args": Inert("argparse.Namespace"),
        "path": Inert("pathlib.Path", "//data"),
        "size": (1, 2),
        "best": 0.5,
        "epoch": 299,
        "big": 10**18,
        "note": "ImageNet",
        "long": Inert("text", "10000 bytes"),
        "raw": Inert("bytes", "3 bytes") if kind == "pth-zip 4" else "abc",
    }


def test_python2_pickles(saved):
    """Python 2 wrote texts as byte strings, large integers as text and an OrderedDict with its items."""
    with open_checkpoint(saved(make.pth_zip_of_pickle(make.python2_pickle()))) as found:
        assert found.tree == {"a": 1, "b": 5_000_000_000}


@pytest.mark.parametrize("compressed", [False, True])
def test_npz(saved, compressed):
    arrays = make.arrays()
    arrays["Transformer/encoderblock_0/kernel"] = np.asfortranarray(arrays["weight"])
    arrays["big"] = arrays["weight"].astype(">f4")
    arrays["large"] = np.random.default_rng(1).standard_normal(3_000_000)
    with open_checkpoint(saved(make.npz(arrays, compressed))) as found:
        assert found.format == "npz"
        check_arrays(found.tree, {**arrays, "big": arrays["weight"]})


def test_zip64(saved):
    arrays = {"a": np.arange(6.0), "b": np.ones(2)}
    with open_checkpoint(saved(make.with_zip64(make.npz(arrays)))) as found:
        check_arrays(found.tree, arrays)


def test_npz_bfloat16_of_jax(saved):
    with open_checkpoint(saved(make.npz({"a": np.array([b"\x80\x3f"], "V2")}))) as found:
        assert (found.tree["a"].dtype, found.tree["a"].read().tolist()) == ("bfloat16", [0x3F80])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pdparams_of_numpy(saved, protocol):
    arrays = make.arrays()
    arrays["fortran"] = np.asfortranarray(arrays["weight"])
    arrays["axes"] = arrays["weight"].transpose(1, 0, 2)
    arrays["big"] = arrays["weight"].astype(">f4")
    arrays["long"] = np.random.default_rng(1).integers(0, 256, 3_000_000).astype(np.uint8)
    tree = {**arrays, "StructuredToParameterName@@": {"weight": "linear_0.w_0"}}
    with open_checkpoint(saved(pickle.dumps(tree, protocol))) as found:
        assert found.format == "pdparams"
        assert found.tree.pop("StructuredToParameterName@@") == {"weight": "linear_0.w_0"}
        check_arrays(found.tree, {**arrays, "big": arrays["weight"]})


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pdparams_of_paddle(tmp_path, protocol):
    import paddle

    layer = paddle.nn.Linear(3, 2)
    half = {name: value.astype("bfloat16") for name, value in layer.state_dict().items()}
    path = str(tmp_path / "a.pdparams")
    paddle.save({"model": layer.state_dict(), "half": half, "epoch": 3}, path, protocol=protocol)
    with open_checkpoint(path) as found:
        assert (found.format, found.tree["epoch"]) == ("pdparams", 3)
        check_arrays(found.tree["model"], {name: value.numpy() for name, value in layer.state_dict().items()})
        ref = found.tree["half"]["weight"]
        assert ref.dtype == "bfloat16"
        np.testing.assert_array_equal(as_float32(ref.read(), ref.dtype), half["weight"].astype("float32").numpy())
    paddle.save(layer.state_dict(), path, protocol=protocol)
    with open_checkpoint(path) as found:
        assert sorted(found.tree.pop("StructuredToParameterName@@")) == ["bias", "weight"]
        check_arrays(found.tree, {name: value.numpy() for name, value in layer.state_dict().items()})


def test_safetensors(saved):
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [8, 12]},
        "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "empty": {"dtype": "I64", "shape": [0], "data_offsets": [8, 8]},
    }
    with open_checkpoint(saved(make.safetensors(header, struct.pack("<2f2H", 1, 2, 3, 4)))) as found:
        assert (found.format, found.metadata) == ("safetensors", {"format": "pt"})
        assert found.tree["b"].dtype == "bfloat16"
        expected = {
            "b": np.array([3, 4], np.uint16),
            "a": np.array([[1, 2]], np.float32),
            "empty": np.zeros(0, np.int64),
        }
        check_arrays(found.tree, expected)


def test_reading_is_lazy_and_ends_with_close(saved):
    path = saved(make.pth_zip({"a": make.Tensor(np.arange(4.0))}))
    with open_checkpoint(path) as found:
        ref = found.tree["a"]
        assert isinstance(ref, TensorRef) and ref.read() is not ref.read()
    with pytest.raises(WeightsError, match="is closed"):
        ref.read()


def test_threads_may_read(saved):
    arrays = {str(i): np.full(50_000, i, np.float32) for i in range(8)}
    found = open_checkpoint(saved(make.npz(arrays)))
    wrong = []

    def read(name):
        for _ in range(20):
            if not (found.tree[name].read() == int(name)).all():
                wrong.append(name)

    threads = [threading.Thread(target=read, args=(name,)) for name in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.close()
    assert wrong == []


def test_file_cut_after_opening(saved):
    path = saved(make.safetensors({"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}, bytes(4000)))
    with open_checkpoint(path) as found:
        os.truncate(path, 2000)
        with pytest.raises(WeightsError, match="bytes too early"):
            found.tree["a"].read()


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_every_order_of_dimensions_and_step(monkeypatch, block):
    monkeypatch.setattr(strided, "BLOCK", block)
    storage = np.arange(6 * 5 * 7 * 4, dtype=np.float32)
    raw = memoryview(storage).cast("B")

    def read_into(start, buffer):
        assert len(buffer) <= max(block, storage.nbytes if block > 64 else 64)
        buffer[:] = raw[start : start + len(buffer)]

    whole = storage.reshape(6, 5, 7, 4)
    views = [whole.transpose(axes) for axes in [(3, 2, 1, 0), (1, 0, 3, 2), (0, 1, 3, 2)]]
    views += [whole[::2, 1:, ::3, 2], whole[2], whole[:, :, :, 0], whole[1:2, :, 0].T, whole[::5, ::4, ::6, ::3]]
    for view in views:
        offset = (view.__array_interface__["data"][0] - storage.__array_interface__["data"][0]) // 4
        strides = tuple(stride // 4 for stride in view.strides)
        assert strided.strided_problem(storage.size, offset, view.shape, strides) is None
        if not view.flags.c_contiguous:
            found = strided.read_strided(read_into, storage.dtype, offset, view.shape, strides)
            np.testing.assert_array_equal(found, view)


def test_as_float32():
    bits = np.array([0x3F80, 0xC020, 0x7F80, 0x0001], np.uint16)
    assert as_float32(bits, "bfloat16").tolist() == [1.0, -2.5, np.inf, 2.0**-133]
    assert as_float32(np.float16([0.1]), "float16") == np.float32(np.float16(0.1))
    assert as_float32(np.array([0.1]), "float64") == np.float32(0.1)
    with pytest.raises(WeightsError, match="beyond float32"):
        as_float32(np.array([1e300]), "float64")
    with pytest.raises(WeightsError, match="int64 tensor is no weight"):
        as_float32(np.array([1]), "int64")


def test_memory_beside_a_tensor_stays_small(saved):
    tracemalloc = pytest.importorskip("tracemalloc")
    values = np.random.default_rng(0).standard_normal((4000, 2000)).astype(np.float32)
    storage = make.Storage(values)
    tree = {"whole": make.Tensor(storage, (4000, 2000)), "turned": make.Tensor(storage, (2000, 4000), (1, 2000))}
    files = {
        "pth": make.pth_zip(tree),
        "npz": make.npz({"whole": values}, compressed=True),
        "2": pickle.dumps({"whole": values}, 2),
        "4": pickle.dumps({"whole": values}, 4),
    }
    for name in files:
        saved(files[name], name)
    folder = Path(saved(b"", "x")).parent
    for name in files:
        with open_checkpoint(folder / name) as found:
            for ref in found.tree.values():
                tracemalloc.start()
                array = ref.read()
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert peak < array.nbytes + (24 << 20), (name, ref.name)
