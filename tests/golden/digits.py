"""scikit-learn's handwritten digits as PNG files, to train the demo on (`configs/finetune/digits.yaml`).

    python tests/golden/digits.py output/digits            # needs scikit-learn

The 360 digits of val_list.txt are those that the demo of this repository is judged by (pretrained/demo_digits).
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def png(digit: np.ndarray) -> bytes:
    """An 8x8 digit, values 0..16, as a greyscale PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.clip(digit * 16, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def read_digits() -> tuple[list[bytes], np.ndarray, list[int], list[int]]:
    """(PNG files, labels, which to train with, which are held out)."""
    digits = load_digits()
    train, test = train_test_split(np.arange(len(digits.target)), test_size=360, stratify=digits.target, random_state=0)
    return [png(image) for image in digits.images], digits.target, train.tolist(), sorted(test.tolist())


def main(folder: Path) -> None:
    files, labels, train, test = read_digits()
    (folder / "images").mkdir(parents=True)
    for i, data in enumerate(files):
        (folder / "images" / f"{i:04d}.png").write_bytes(data)
    for name, chosen in (("train", sorted(train)), ("val", test)):
        lines = [f"images/{i:04d}.png {labels[i]}\n" for i in chosen]
        (folder / f"{name}_list.txt").write_text("".join(lines))
        print(f"{folder / name}_list.txt: {len(lines)} digits")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
