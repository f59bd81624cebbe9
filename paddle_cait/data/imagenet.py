"""The 1,000 classes of ILSVRC2012: WordNet ids, names, and the two numberings that are easily confused.

*Label* 0..999 is the place in the sorted WordNet ids: the order of the official checkpoints' logits. The development
kit counts otherwise, ``ILSVRC2012_ID`` 1..1000: ``ILSVRC2012_validation_ground_truth.txt`` holds these. In
``imagenet_classes.txt`` line n + 1 is ``wnid name ILSVRC2012_ID`` of label n.

Where the ids come from: the kit's ``meta.mat``; they turn the kit's 50,000 ground-truth ids into exactly the 50,000
WordNet ids that TensorFlow published for the same images (``imagenet_2012_validation_synset_labels.txt``).
"""

from __future__ import annotations

import functools
from pathlib import Path

NUM_CLASSES = 1000


def imagenet_wnids() -> list[str]:
    """WordNet ids (``n01440764``) in label order."""
    return [row[0] for row in _rows()]


def imagenet_class_names() -> list[str]:
    """Names (``great white shark``) in label order. Two names come twice: ``crane`` and ``maillot``."""
    return [row[1].replace("_", " ") for row in _rows()]


def ilsvrc_id_to_label() -> dict[int, int]:
    """ILSVRC2012_ID 1..1000 -> label 0..999."""
    return {int(row[2]): label for label, row in enumerate(_rows())}


@functools.cache
def _rows() -> tuple[tuple[str, ...], ...]:
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="ascii")
    return tuple(tuple(line.split()) for line in text.splitlines())
