"""Label sets: which classes are right for each image, and among which classes the model is asked.

A plain set has one label an image, and the best of all logits counts. The other published test sets of ImageNet
classifiers differ in one of the two, or only in their images:

- ImageNet-ReaL (arXiv:2006.07159, ``real.json`` of google-research/reassessed-imagenet): any number of right classes
  for each ILSVRC2012 validation image; the images without any (3,163 of 50,000) do not count.
- ImageNet-A (arXiv:1907.07174) and ImageNet-R (arXiv:2006.16241): 200 classes each, and only their 200 logits are
  looked at, in the authors' evaluation as in timm's. With all 1,000 the same model scores lower.
- ImageNetV2 (arXiv:1902.10811), three sets of 10,000 images: folders ``0`` .. ``999`` whose *names* are the labels. As
  text, 10 sorts before 2: torchvision's ImageFolder labels them wrong. Which of the three it is shows in the root's
  name alone; ``ImageNetV2`` without more is matched-frequency, as in papers.
- ImageNet-Sketch (arXiv:1905.13549): class folders as usual, known by the names of its files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paddle_cait.data.ground_truth import is_validation_name
from paddle_cait.data.imagenet import NUM_CLASSES
from paddle_cait.errors import DataError

UNNAMED = "unnamed"
ILSVRC2012 = "ILSVRC2012"
REAL = "ImageNet-ReaL"
V2 = "ImageNetV2"
V2_UNKNOWN = f"{V2} of unknown variant"
SEVERAL = "several labels an image"
CLASS_SUBSETS = ("auto", "all", "present")

_REAL_IMAGES = 50000
_REAL_MOST_BYTES = 16 << 20  # the published file has 0.4 MB
# sha256 (first 16 digits) of what identifies a published set, so that its name is never given to another one
_REAL_DIGEST = "571f454f8fe788a8"  # of the 50,000 lists
_SUBSET_DIGESTS = {"973e8c3e530bf5db": "ImageNet-A", "a1d9a9ace3098120": "ImageNet-R"}  # of the 200 labels
_V2_VARIANT = re.compile(r"imagenet.*?(?:(matched)-?frequency|(threshold)-?0\.7|(top)-?images)", re.IGNORECASE)
_V2_NAMES = (V2, f"{V2} threshold0.7", f"{V2} top-images")
_SKETCH_NAME = re.compile(r"(?:.*/)?sketch_\d+\.jpe?g", re.IGNORECASE)


@dataclass(frozen=True)
class LabelSet:
    """``right[i]``: the classes that are right for image ``i``; None where each image has one label.

    ``classes``: the sorted classes that are asked; None for all. ``name``: a published set's (``ImageNet-ReaL``), or
    ``unnamed``. ``num_classes``: how many classes the labels were made for, where that is known. ``not_counted``: how
    many images were left out because no class is right for them.
    """

    name: str = UNNAMED
    right: tuple[tuple[int, ...], ...] | None = None
    classes: tuple[int, ...] | None = None
    num_classes: int | None = None
    not_counted: int = 0

    @property
    def labels_per_image(self) -> float:
        """How many classes are right on average: chance is this over the number of classes asked."""
        return 1.0 if not self.right else sum(map(len, self.right)) / len(self.right)

    def note(self) -> str:
        """What is unusual about this set, in words; empty for a plain one."""
        parts = [] if self.name in (UNNAMED, ILSVRC2012) else [self.name]
        if self.name == V2_UNKNOWN:
            parts.append("its folder's own name would tell (imagenetv2-matched-frequency-format-val)")
        if self.classes is not None:
            of = f" of {self.num_classes:,}" if self.num_classes else ""
            parts.append(f"over {len(self.classes):,}{of} classes")
        if self.right is not None:
            parts.append("any of an image's labels is right")
        if self.not_counted:
            parts.append(f"{self.not_counted:,} more without a label not counted")
        return ", ".join(parts)


PLAIN = LabelSet()


def comparable(found: str, published: str) -> bool:
    """Whether an accuracy over the label set ``found`` can be held against a number over ``published``.

    An unnamed set (a list or folders of one's own) may be anything but those sets that would have been recognised.
    """
    return found == published or (found == UNNAMED and not published.startswith("ImageNet"))


def recognise(
    labels: LabelSet, root: Path, names: Sequence[str], present: Iterable[int], num_classes: int | None, subset: str
) -> LabelSet:
    """``labels`` with its name, and with the classes that are asked.

    Args:
        root, names: where the images are and what they are called, which tells published sets apart.
        num_classes: of the model; None where there is none yet.
        present: every class that is right for some image.
        subset: ``auto`` asks 200 classes where they are exactly ImageNet-A's or ImageNet-R's, else all; ``all``;
            ``present`` asks only the classes that have images. :class:`DataError` for another word.
    """
    if subset not in CLASS_SUBSETS:
        raise DataError(f"class_subset is {subset!r}, expected one of {', '.join(CLASS_SUBSETS)}")
    classes = tuple(sorted(set(present)))
    known = None
    if labels.right is not None:
        labels = replace(labels, name=SEVERAL if labels.name == UNNAMED else labels.name)
    elif num_classes in (None, NUM_CLASSES):
        known = _SUBSET_DIGESTS.get(_digest(",".join(map(str, classes))))
        labels = _named(labels, root, names, known)
    asked = classes if subset == "present" or (subset == "auto" and known) else None
    if asked is None:
        return replace(labels, name=f"{labels.name} among all classes") if known else labels
    if len(asked) == num_classes:
        return labels
    if not known:
        name = f"subset of {len(asked):,} classes"
        labels = replace(labels, name=name if labels.name == UNNAMED else f"{labels.name}, {name}")
    return replace(labels, classes=asked, num_classes=NUM_CLASSES if known else num_classes)


def _named(labels: LabelSet, root: Path, names: Sequence[str], known: str | None) -> LabelSet:
    """The name that files, folders and classes give away."""
    validation = all(map(is_validation_name, names))
    if known:  # timm's name for the validation images of the same classes
        return replace(labels, name=f"{known}-clean" if validation else known, num_classes=NUM_CLASSES)
    if validation:
        return replace(labels, name=ILSVRC2012)
    if all(map(_SKETCH_NAME.fullmatch, names)):
        return replace(labels, name="ImageNet-Sketch", num_classes=NUM_CLASSES)
    variant = _V2_VARIANT.search("/".join(root.resolve().parts[-2:]))
    if variant:
        return replace(labels, name=_V2_NAMES[(variant.lastindex or 1) - 1], num_classes=NUM_CLASSES)
    folders = {name.partition("/")[0] for name in names} if len(names) == 10 * NUM_CLASSES else set()
    if folders == set(map(str, range(NUM_CLASSES))):
        return replace(labels, name=V2_UNKNOWN, num_classes=NUM_CLASSES)
    return labels


def real_label_set(names: Sequence[str], path: Path, num_classes: int | None) -> tuple[list[tuple[int, ...]], str]:
    """The right classes of each image, found by the number in its name (never by its place), and the set's name."""
    if num_classes not in (None, NUM_CLASSES):
        raise DataError(f"{path}: gives the {NUM_CLASSES} ILSVRC2012 classes, the model has {num_classes}")
    table = read_real_labels(path)
    found = []
    for name in names:
        number = int(Path(name).stem[-8:]) if is_validation_name(name) else 0
        if not 1 <= number <= len(table):
            raise DataError(
                f"{name}: {path} labels only images named ILSVRC2012_val_00000001.JPEG .. _{len(table):08d}.JPEG"
            )
        found.append(table[number - 1])
    published = _digest(json.dumps(table, separators=(",", ":"))) == _REAL_DIGEST
    return found, REAL if published else f"labels of {path.name}"


def read_real_labels(path: Path) -> list[tuple[int, ...]]:
    """``real.json``: a list of 50,000 lists of labels 0..999; the first is ILSVRC2012_val_00000001's."""
    try:
        if path.stat().st_size > _REAL_MOST_BYTES:
            raise DataError(f"{path}: is larger than {_REAL_MOST_BYTES >> 20} MiB, expected the 0.4 MB of real.json")
        table = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: the labels cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON, expected real.json of google-research/reassessed-imagenet") from error
    if not isinstance(table, list) or len(table) != _REAL_IMAGES:
        found = f"{len(table):,} entries" if isinstance(table, list) else f"a JSON {type(table).__name__}"
        raise DataError(f"{path}: holds {found}, expected a list of {_REAL_IMAGES:,} lists of labels")
    for number, labels in enumerate(table, 1):
        whole = isinstance(labels, list) and all(type(i) is int and 0 <= i < NUM_CLASSES for i in labels)
        if not whole or len(set(labels)) < len(labels):
            raise DataError(
                f"{path}: entry {number} (ILSVRC2012_val_{number:08d}) is {json.dumps(labels)[:60]}, expected a list "
                f"of different labels 0..{NUM_CLASSES - 1}"
            )
    return [tuple(labels) for labels in table]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
