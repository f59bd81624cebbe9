"""What is written is what the libraries write or load, one tensor at a time."""

import io
import pickle
import struct
import subprocess
import sys

import make_files as make
import numpy as np
import pytest

from paddle_cait.errors import WeightsError
from paddle_cait.weights.pdparams_files import write_pdparams
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.safetensors_files import write_safetensors
from paddle_cait.weights.tensors import OutTensor

pytestmark = pytest.mark.light


def out(name, array, dtype=None):
    return OutTensor(name, array.shape, dtype or array.dtype.name, lambda: array)


def all_tensors():
    tensors = [out(name, array) for name, array in make.arrays().items()]
    return [*tensors, out("blocks.0.权重", np.array([[0x3F80], [0xC000]], np.uint16), "bfloat16")]


def written(write, *arguments):
    file = io.BytesIO()
    write(file, *arguments)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["safetensors", "pdparams"])
def test_round_trip(tmp_path, kind):
    tensors = all_tensors()
    writers = {
        "safetensors": lambda: written(write_safetensors, tensors, {"b": "1", "a": "é\n"}),
        "pdparams": lambda: written(write_pdparams, tensors),
    }
    path = tmp_path / "file"
    path.write_bytes(writers[kind]())
    with open_checkpoint(path) as found:
        assert found.format == kind
        assert found.metadata == ({"a": "é\n", "b": "1"} if kind == "safetensors" else {})
        assert sorted(found.tree) == sorted(tensor.name for tensor in tensors)
        for tensor in tensors:
            ref = found.tree[tensor.name]
            assert (ref.shape, ref.dtype) == (tensor.shape, tensor.dtype)
            np.testing.assert_array_equal(ref.read(), tensor.read())


def test_pdparams_is_a_plain_pickle_of_arrays():
    tensors = all_tensors()
    loaded = pickle.loads(written(write_pdparams, tensors))
    assert list(loaded) == [tensor.name for tensor in tensors]
    for tensor in tensors:
        np.testing.assert_array_equal(loaded[tensor.name], tensor.read())


def test_pdparams_names_numpy_as_both_versions_know_it():
    """numpy 2 must load it without a warning; numpy 1 has no ``numpy._core``."""
    data = written(write_pdparams, all_tensors())
    assert b"numpy.core.multiarray" in data and b"numpy._core" not in data
    code = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-W", "error", "-c", code], input=data, check=True)


def test_paddle_loads_pdparams(tmp_path):
    import paddle

    path = str(tmp_path / "a.pdparams")
    drawn = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    with open(path, "wb") as file:
        write_pdparams(file, [out("weight", drawn), out("bias", np.ones(2, np.float32))])
    layer = paddle.nn.Linear(3, 2)
    assert layer.set_state_dict(paddle.load(path)) == ([], [])
    np.testing.assert_array_equal(layer.weight.numpy(), drawn)

    bits = (drawn.view(np.uint32) >> 16).astype(np.uint16)
    with open(path, "wb") as file:
        write_pdparams(file, [out("weight", bits, "bfloat16"), out("bias", np.zeros(2, np.uint16), "bfloat16")])
    half = paddle.nn.Linear(3, 2).to(dtype="bfloat16")
    half.set_state_dict(paddle.load(path))
    found = half.weight.astype("float32").numpy()
    np.testing.assert_array_equal(found, (bits.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.parametrize("write", [write_pdparams, lambda file, tensors: write_safetensors(file, tensors, {})])
def test_one_tensor_in_memory(write):
    alive, most = [0], [0]

    class Counted(np.ndarray):
        def __array_finalize__(self, source):
            if not isinstance(source, Counted):
                alive[0] += 1
                most[0] = max(most[0], alive[0])
                self.counts = True

        def __del__(self):
            alive[0] -= getattr(self, "counts", False)

    class Sink:
        size = 0

        def write(self, data):
            self.size += len(data)

    sink = Sink()
    write(
        sink, [OutTensor(str(i), (100,), "float32", lambda: np.zeros(100, np.float32).view(Counted)) for i in range(20)]
    )
    assert sink.size > 8000 and most[0] <= 2


def test_refusals():
    ones = np.ones(2, np.float32)
    for write in (write_pdparams, lambda file, tensors: write_safetensors(file, tensors, {})):
        for tensors, message in [
            ([out("a", ones), out("a", ones)], "named 'a'|'a' is taken"),
            ([OutTensor("a", (3,), "float32", lambda: ones)], r"announced as float32 \[3\]"),
            ([OutTensor("a", (2,), "float64", lambda: ones)], "announced as float64"),
            ([out("\ud800", ones)], "valid"),
        ]:
            with pytest.raises(WeightsError, match=message):
                written(write, tensors)
    with pytest.raises(WeightsError, match="no place in .pdparams"):
        written(write_pdparams, [out("a", ones.astype(np.uint32))])
    with pytest.raises(WeightsError, match="is taken"):
        written(write_safetensors, [out("__metadata__", ones)], {})


def test_safetensors_header_is_aligned():
    data = written(write_safetensors, [out("a", np.ones(1, np.int8))], {"format": "pd"})
    assert struct.unpack("<Q", data[:8])[0] % 8 == 0
