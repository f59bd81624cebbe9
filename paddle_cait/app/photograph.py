"""An uploaded file as a photograph, or a sentence that says why it is none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from paddle_cait.data.transforms import decode
from paddle_cait.errors import DataError

_PNG, _GREY_OF_16_BITS = b"\x89PNG\r\n\x1a\n", b"\x10\x00"  # bit depth and colour type, at bytes 24 and 25
_MOST_OF_16_BITS = 1 << 26  # pixels


def read_photograph(upload: str, most_bytes: int) -> Image.Image:
    """RGB, upright as its camera noted. Messages name the file, not its folder.

    Greyscale of 16 bits is taken by its upper 8; elsewhere it is cut off at 255 as torchvision does, which is white.
    """
    name = Path(upload).name
    try:
        size = Path(upload).stat().st_size
        data = Path(upload).read_bytes() if size <= most_bytes else b""
    except OSError as error:
        raise DataError(f"{name}: is no longer there, choose it again") from error
    if size > most_bytes:
        raise DataError(f"{name}: {size / 2**20:.1f} MB, expected at most {most_bytes / 2**20:g} MB")
    image = decode(data, name, exif=True)
    if data.startswith(_PNG) and data[24:26] == _GREY_OF_16_BITS and image.width * image.height <= _MOST_OF_16_BITS:
        with Image.open(io.BytesIO(data)) as deep:
            image = Image.fromarray((np.asarray(deep) >> 8).astype(np.uint8)).convert("RGB")
    return image
