"""Every file that a browser may upload: a photograph, or one sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from paddle_cait.app.photograph import read_photograph
from paddle_cait.errors import DataError

MOST = 1 << 20
RAMP = np.linspace(0, 255, 24 * 16).reshape(16, 24).astype(np.uint8)  # wider than high


def saved(tmp_path, image, name, **how):
    image.save(tmp_path / name, **how)
    return str(tmp_path / name)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "1", "LA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    name = "photo.tif" if mode == "CMYK" else "photo.png"
    found = read_photograph(saved(tmp_path, Image.fromarray(RAMP).convert(mode), name), MOST)
    assert found.mode == "RGB" and found.size == (24, 16)


def test_sixteen_bits_of_grey_are_not_white(tmp_path):
    deep = Image.fromarray((RAMP.astype(np.uint16) << 8) + 7)
    found = np.asarray(read_photograph(saved(tmp_path, deep, "deep.png"), MOST))
    assert np.array_equal(found, np.stack([RAMP] * 3, axis=-1))


def test_photographs_are_turned_as_the_camera_noted(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    path = saved(tmp_path, Image.fromarray(RAMP), "turned.png", exif=exif)
    assert read_photograph(path, MOST).size == (16, 24)


def test_one_pixel_is_a_photograph(tmp_path):
    assert read_photograph(saved(tmp_path, Image.new("RGB", (1, 1), "red"), "dot.png"), MOST).size == (1, 1)


def bomb():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def truncated():
    data = io.BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 64, 3), np.uint8)).save(data, "jpeg")
    return data.getvalue()[:900]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "bad.jpg: the file is empty"),
        (b"This is a letter, not a photograph." * 9, "bad.jpg: not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "bad.jpg: not an image"),
        (truncated(), "bad.jpg: the image cannot be decoded"),
        (bomb(), "bad.jpg: more than 268435456 pixels, refused as a decompression bomb"),
        (bytes(MOST + 1), r"bad.jpg: 1.0 MB, expected at most 1 MB"),
    ],
    ids=["empty", "text", "svg", "truncated", "bomb", "large"],
)
def test_anything_else_is_one_sentence_without_its_folder(tmp_path, data, told):
    (tmp_path / "bad.jpg").write_bytes(data)
    with pytest.raises(DataError, match=told) as caught:
        read_photograph(str(tmp_path / "bad.jpg"), MOST)
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


def test_a_photograph_that_was_deleted_meanwhile(tmp_path):
    with pytest.raises(DataError, match="^gone.jpg: is no longer there, choose it again$"):
        read_photograph(str(tmp_path / "gone.jpg"), MOST)
