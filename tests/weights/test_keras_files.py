"""Keras's files of gcvit-tf: its weights and whole models, to the logits that Keras computed; and what is refused."""

import zipfile

import numpy as np
import pytest
from helpers import GOLDEN, images, preset, run

import paddle_cait as pc
from paddle_cait.weights.readers import open_checkpoint

h5py = pytest.importorskip("h5py", reason="pip install h5py")

ARCH = {"embed_dim": 4, "depths": [2, 1, 2, 1], "num_heads": [1, 1, 2, 2], "mlp_ratio": 2.0}
LOGITS = np.load(GOLDEN / "gcvit_keras.npz")


@pytest.mark.parametrize(("kind", "layout"), [("h5", "keras"), ("keras", "keras (variables)")])
def test_logits_equal_kerass(tmp_path, kind, layout):
    changes = {"init_values": 1e-5} if kind == "keras" else {}
    tiny = preset(tmp_path, family="gcvit", **ARCH, **changes)
    model = pc.create_model(tiny, GOLDEN / f"gcvit_keras.{kind}")
    report = model.load_report
    assert (report.format, report.layout) == ("hdf5", layout) and not report.left_out
    expected = LOGITS[kind]
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(run(model, images(3, 64)), expected, atol=1e-5)
    pc.convert(GOLDEN / f"gcvit_keras.{kind}", tmp_path / "ours.safetensors", model=tiny, layout="official")
    again = pc.create_model(tiny, tmp_path / "ours.safetensors")
    np.testing.assert_array_equal(run(again, images(3, 64)), run(model, images(3, 64)))


def h5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, (value, options) in datasets.items():
            file.create_dataset(name, data=value, **options)
    return path


ONES = np.ones((30, 30), "float32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": "gzip"}, "is compressed or lies elsewhere"),
        ({"shuffle": True, "chunks": (3, 3)}, "is compressed or lies elsewhere"),
        ({"fletcher32": True, "chunks": (3, 3)}, "is compressed or lies elsewhere"),
    ],
)
def test_filters_are_refused(tmp_path, options, message):
    with pytest.raises(pc.WeightsError, match=rf"dataset 'a': {message}"):
        open_checkpoint(h5(tmp_path / "x.h5", a=(ONES, options)))


def test_data_in_other_files_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (4,), "float32", external=[(str(tmp_path / "secret"), 0, 16)])
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    with pytest.raises(pc.WeightsError, match="dataset 'a': is compressed or lies elsewhere"):
        open_checkpoint(tmp_path / "x.h5")
    h5(tmp_path / "other.h5", a=(ONES, {}))
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["a"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "a")
        file["b"] = h5py.SoftLink("/c")
        file["c"] = ONES
    with open_checkpoint(tmp_path / "links.h5") as checkpoint:
        assert list(checkpoint.tree) == ["c"]
    layout = h5py.VirtualLayout((30, 30), "float32")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (30, 30))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    with pytest.raises(pc.WeightsError, match="dataset 'v': is compressed or lies elsewhere"):
        open_checkpoint(tmp_path / "virtual.h5")


def test_what_is_no_number_or_not_there(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=["text"], dtype=h5py.string_dtype())
    with pytest.raises(pc.WeightsError, match="dataset 'a': holds Python objects"):
        open_checkpoint(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (10**9,), "float32", chunks=(1000,))  # claims 4 GB and holds nothing
    with pytest.raises(pc.WeightsError, match="less data than its shape says"):
        open_checkpoint(tmp_path / "x.h5")


def test_cut_and_changed_files_end_in_one_line(tmp_path):
    data = (GOLDEN / "gcvit_keras.h5").read_bytes()
    rng = np.random.RandomState(0)
    for i in range(60):
        broken = bytearray(data[: len(data) // (i + 2)] if i < 10 else data)
        for _ in range(8):
            broken[rng.randint(8, len(broken))] = rng.randint(256)
        path = tmp_path / "x.h5"
        path.write_bytes(bytes(broken))
        try:
            with open_checkpoint(path) as checkpoint:
                for ref in checkpoint.tree.values():
                    assert ref.read().shape == ref.shape
        except pc.WeightsError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_a_compressed_keras_file_says_what_to_do(tmp_path):
    with zipfile.ZipFile(GOLDEN / "gcvit_keras.keras") as archive:
        data = archive.read("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", data)
    with pytest.raises(pc.WeightsError, match=r"model\.weights\.h5 in it is compressed: unpack it"):
        open_checkpoint(tmp_path / "x.keras")


def test_a_closed_file_is_not_read(tmp_path):
    with open_checkpoint(h5(tmp_path / "x.h5", a=(ONES, {}))) as checkpoint:
        ref = checkpoint.tree["a"]
        np.testing.assert_array_equal(ref.read(), ONES)
    with pytest.raises(pc.WeightsError, match="dataset 'a': cannot be read"):
        ref.read()
