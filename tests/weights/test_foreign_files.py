"""Files that are broken or something else: each gets one line that says what it is and what to do."""

import io
import os
import pickle
import struct
import tarfile
import zipfile

import make_files as make
import numpy as np
import pytest

from paddle_cait.errors import WeightsError
from paddle_cait.weights.readers import open_checkpoint

pytestmark = pytest.mark.light


def tar_file():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return file.getvalue()


FOREIGN = {
    "empty": (b"", "is empty"),
    "html": (b"\n <!DOCTYPE html><html>", "a download page was saved"),
    "xml": (b"\xef\xbb\xbf<?xml version='1.0'?><Error>AccessDenied</Error>", "a download page was saved"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "gunzip"),
    "tar": (tar_file(), "is a tar archive"),
    "npy": (b"\x93NUMPY\x01\0", "numpy.savez"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x3a\x90\x03\x0a", "cut short: at least 399 bytes are missing"),
    "text": (b"hello world", "is a text file that begins with 'hello world'"),
    "zeros": (bytes(1000), "the download was not finished"),
    "pdiparams": (bytes(16) + b"\x0a\0\0\0\x08\x05\x10\x03", ".pdiparams"),
    "noise": (b"\x00\x01\x02\xff" * 9, "unknown format"),
    "pickle protocol 0": (b"(dp0\n.", "text file"),
    "zip of something": (make.zipped({"word/document.xml": b"x"}), "zip archive of something else"),
    "zip of nothing": (make.zipped({}), "zip archive of something else"),
    "torchscript": (make.zipped({"m/data.pkl": b"", "m/constants.pkl": b""}), "TorchScript"),
    "no dict": (pickle.dumps([np.ones(3)], 4), "holds one list, expected a dict"),
    "whole model": (make.pth_zip({"m": make.Call("timm.models.cait", "Cait")}), "timm.models.cait.Cait"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files(saved, kind):
    data, message = FOREIGN[kind]
    path = saved(data)
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text


def test_no_such_file_folder_pipe(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        open_checkpoint(tmp_path / "a")
    with pytest.raises(WeightsError, match="is a folder"):
        open_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="no regular file"):
        open_checkpoint(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="cannot be opened"):
        open_checkpoint("a\0b")


def test_truncated_files_say_how_much_is_missing(saved):
    tree = {"a": make.Tensor(np.zeros(1000, np.float32))}
    header = {"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}
    whole = {
        "pth-legacy": make.pth_legacy(tree),
        "safetensors": make.safetensors(header, bytes(4000)),
        "pdparams": pickle.dumps({"a": np.zeros(1000, np.float32)}, 4),
    }
    for kind, data in whole.items():
        with pytest.raises(WeightsError, match=r"\d+ bytes are missing"):
            open_checkpoint(saved(data[:-500], kind))
    for data in (make.pth_zip(tree), make.npz({"a": np.zeros(1000)})):
        with pytest.raises(WeightsError, match="cut short"):
            open_checkpoint(saved(data[:-500]))


def test_damage_is_found_by_crc(saved):
    data = bytearray(make.pth_zip({"a": make.Tensor(np.full(1000, 7, np.float64)), "b": make.Tensor(np.ones(3))}))
    at = data.index(np.full(10, 7, np.float64).tobytes())
    data[at + 800] ^= 1
    with open_checkpoint(saved(data)) as found:
        assert found.tree["b"].read().tolist() == [1, 1, 1]
        with pytest.raises(WeightsError, match="'archive/data/0': is corrupt"):
            found.tree["a"].read()


def test_crc_may_be_left_out(saved):
    """torch.serialization.set_crc32_options(False) writes 0."""
    data = make.pth_zip({"a": make.Tensor(np.ones(3))})
    for info in zipfile.ZipFile(io.BytesIO(data)).infolist():
        data = data.replace(struct.pack("<L", info.CRC), bytes(4))
    with open_checkpoint(saved(data)) as found:
        assert found.tree["a"].read().tolist() == [1, 1, 1]
