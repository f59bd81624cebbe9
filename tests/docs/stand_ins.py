"""What stands in for a reader's files: tiny ones of the names that the pages use, made of the bundled digits."""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from doc_pages import ROOT, Block
from helpers import draw_state, official_shapes
from PIL import Image

from paddle_cait.presets import get_preset

DIGITS = ROOT / "pretrained" / "demo_digits"
DEMO = ROOT / "pretrained" / "demo_cait_digits.pth"

# Names and numbers of full-size models, and what the demo takes in their place.
WORDS = {
    "cait_xxs24_224": "demo_cait_digits",
    "dinov2_vits14": "demo_cait_digits",
    "518": "32",
    "252": "32",
    "deit": "demo",
    "configs/eval/cait_xxs24_224.yaml": "configs/eval/cait_xxs24_224.yaml -o model=demo_cait_digits",
    "weights=dino_deitsmall16_pretrain.pth": "weights=XXS24_224.pth -o model=demo_cait_digits -o nb_knn=5",
}
# What is long on a busy machine, in seconds.
BRIEF = {
    "bench": "--rounds 1 --seconds 0.01 --ceiling 0 --quiet-wait 0 --threads 1 "
    "--engines dygraph onnxruntime --peers eager",
    "finetune": "--epochs 2 --warmup-epochs 0",
}
# The authors' files that a program loads, and whose shapes they have.
DRAWN = {
    "deit_tiny_patch16_224-a1311bcf.pth": "deit_tiny_patch16_224",
    "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0.npz": "vit_tiny_patch16_224.augreg_in21k",
    "dinov2_vits14_pretrain.pth": "dinov2_vits14",
}


def require(packages: Iterable[str]) -> None:
    for name in sorted(packages):
        pytest.importorskip(name, reason="the page's blocks need it: make test has the light ones, make oracles all")


def link_checkout(folder: Path) -> None:
    """A checkout to write into: what a page writes to pretrained/ stays in ``folder``."""
    for name in ("configs", "docs", "tools"):
        (folder / name).symlink_to(ROOT / name, target_is_directory=True)
    (folder / "pretrained").mkdir()
    for path in (ROOT / "pretrained").iterdir():
        (folder / "pretrained" / path.name).symlink_to(path)


def brought_down(block: Block) -> list[str]:
    """Its commands, for the demo in the place of a full-size model."""
    found = []
    for command in block.commands():
        words = [WORDS.get(word, word) for word in shlex.split(command, comments=True)]
        found.append(" ".join([*words, BRIEF.get(words[1], "")]).rstrip())
    return found


def lay_out(folder: Path) -> None:
    """Make the files that the pages' ``console`` blocks name."""
    for name in ("XXS24_224.pth", "dinov2_vits14_pretrain.pth", "dino_deitsmall16_pretrain.pth", "ViT-B_16.npz"):
        (folder / name).symlink_to(DEMO)
    digits, rows = _digits(40), []
    for i, (label, image) in enumerate(digits):
        places = [
            f"ILSVRC2012/{'train' if i < 20 else 'val'}/{label}",
            f"flowers/{'tulip' if int(label) % 2 else 'rose'}",
        ]
        places += ["photographs"] if i < 8 else ["holidays"] if i < 12 else []
        for place in places:
            (folder / place).mkdir(parents=True, exist_ok=True)
            image.save(folder / place / f"{i:02}.jpg", quality=95)
        rows += [f"{label}/{i:02}.jpg {label}\n"] if i >= 20 else []
    (folder / "ILSVRC2012" / "val_list.txt").write_text("".join(rows))
    for name in ("cat.jpg", "rose.jpg"):
        digits[0][1].save(folder / name)


def draw(folder: Path) -> None:
    """Make the authors' files that README's program loads."""
    for name, preset in DRAWN.items():
        state = draw_state(official_shapes(get_preset(preset)))
        with open(folder / name, "wb") as file:  # read by content, whatever the name
            np.savez(file, **state)


def film(path: Path) -> None:
    """Six frames of a digit, 48x32."""
    import cv2

    frame = np.asarray(_digits(1)[0][1].resize((48, 32)))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 32))
    for _ in range(6):
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()


def _digits(count: int) -> list[tuple[str, Image.Image]]:
    """(label, image) of so many digits, one of each class after the other."""
    rows = [line.split() for line in (DIGITS / "val_list.txt").read_text().splitlines()]
    of_class = {label: [name for name, other in rows if other == label] for label in sorted({row[1] for row in rows})}
    chosen = [(label, names[i]) for i in range(-(-count // 10)) for label, names in of_class.items()][:count]
    with tarfile.open(DIGITS / "digits.tar") as tar:
        return [(label, Image.open(io.BytesIO(tar.extractfile(name).read())).convert("RGB")) for label, name in chosen]
