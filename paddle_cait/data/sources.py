"""Where labelled images come from: a list file, class folders, or the ILSVRC2012 validation set with its ground truth.

`open_source` looks at what is there and says which reader it used. Nothing is guessed about labels: what cannot be
mapped with certainty is an error that tells what to pass.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path

from paddle_cait.data.class_folders import PARTS, VALIDATION_FOLDERS, folder_labels
from paddle_cait.data.ground_truth import GROUND_TRUTH_NAME, find_ground_truth, is_validation_name, validation_labels
from paddle_cait.data.image_files import images_below, list_folder, missing_files
from paddle_cait.data.image_list import ImageList, read_list
from paddle_cait.data.imagenet import imagenet_wnids
from paddle_cait.data.label_sets import PLAIN, UNNAMED, LabelSet, real_label_set, recognise
from paddle_cait.data.tar_index import TarIndex
from paddle_cait.errors import DataError
from paddle_cait.files import PathLike

LIST_NAME = "val_list.txt"
TAR_NAME = "ILSVRC2012_img_val.tar"


class ImageSource:
    """Encoded images and their labels; picklable, cheap to send to worker processes.

    ``names``: paths relative to the root, with forward slashes. ``right``: the 0-based labels that are right for each
    image; ``labels``: the first of them, in most data sets the only one; ``label_set``: what is unusual about them.
    ``root``: the folder, or the tar. ``kind``: the reader that was used; ``labelled_by``: the file that gave the
    labels, or how folders were numbered. ``fingerprint``: sha256 over ``"name label\\n"`` of all rows, so that two
    results can be known to be over the same images with the same labels.
    """

    label_set: LabelSet = PLAIN

    def __init__(self, kind: str, root: Path, names: Sequence[str], labels: Sequence[int], labelled_by: str) -> None:
        self.kind = kind
        self.root = root
        self.names = list(names)
        self.labels = list(labels)
        self.labelled_by = labelled_by

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> bytes:
        """The encoded image. Raises `DataError` if its file cannot be read."""
        try:
            with open(self.root / self.names[i], "rb") as file:
                return file.read()
        except OSError as error:
            raise DataError(f"{self.path(i)}: cannot be read ({error.strerror})") from error

    def path(self, i: int) -> str:
        """Where image ``i`` is, for messages."""
        return str(self.root / self.names[i])

    @property
    def right(self) -> Sequence[tuple[int, ...]]:
        """The labels that are right for each image, one or several."""
        return self.label_set.right or [(label,) for label in self.labels]

    def relabelled(self, right: Sequence[tuple[int, ...]], labelled_by: str, name: str = UNNAMED) -> ImageSource:
        """The same images with other labels, without those for which no class is right.

        Raises :class:`DataError` if none is left.
        """
        kept = [i for i, labels in enumerate(right) if labels]
        if not kept:
            raise DataError(f"{labelled_by}: gives none of the {len(right)} images in {self.root} a label")
        source = copy.copy(self)
        source.names, source.labels = [self.names[i] for i in kept], [right[i][0] for i in kept]
        source.labelled_by = labelled_by
        source.label_set = LabelSet(name, tuple(right[i] for i in kept), not_counted=len(right) - len(kept))
        return source

    def describe(self) -> str:
        """One line: how many images of how many classes, which reader found them where, what gave the labels."""
        classes = len({label for labels in self.right for label in labels})
        how = "; ".join(filter(None, (self.labelled_by, self.label_set.note())))
        return f"{len(self)} images of {classes} classes from {self.root} ({self.kind}: {how})"

    @property
    def fingerprint(self) -> str:
        """64 hex digits; see above."""
        digest = hashlib.sha256()
        for name, labels in zip(self.names, self.right):
            digest.update(f"{name} {','.join(map(str, labels))}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class TarSource(ImageSource):
    """Images that stay inside a tar; names are those in the tar."""

    def __init__(self, tar: TarIndex, names: Sequence[str], labels: Sequence[int], labelled_by: str) -> None:
        super().__init__("tar", tar.path, names, labels, labelled_by)
        self._tar = tar

    def read(self, i: int) -> bytes:
        return self._tar.read(self.names[i])

    def path(self, i: int) -> str:
        return f"{self.root}:{self.names[i]}"


def open_source(
    root: PathLike,
    list_file: PathLike | None = None,
    ground_truth: PathLike | None = None,
    num_classes: int | None = None,
    image_root: PathLike | None = None,
    real_labels: PathLike | None = None,
    class_subset: str = "auto",
) -> ImageSource:
    """The labelled images at ``root``, a folder or ``ILSVRC2012_img_val.tar``. The first reader that fits is used:

    1. a list file, ``PATH LABEL`` a line (``PATH 3,17`` where both are right): ``list_file``, or ``val_list.txt`` in
       the root; paths count from ``image_root`` (default: the root);
    2. validation images ``ILSVRC2012_val_NNNNNNNN.JPEG`` in one folder or in the tar, labelled by the development kit's
       ``ILSVRC2012_validation_ground_truth.txt``: ``ground_truth``, or found in or beside the folder;
    3. one folder per class: WordNet ids of ILSVRC2012 are mapped exactly (any subset), ImageNetV2's ``0`` .. ``999``
       are the labels themselves, other names are numbered in sorted order and must be ``num_classes``.

    A folder that holds ``val`` (beside ``train`` and the like) stands for it. ``real_labels``: ImageNet-ReaL's
    ``real.json``, which labels validation images from whatever reader anew. ``class_subset``: over which of the model's
    classes the best one is sought, see :func:`paddle_cait.data.label_sets.recognise`.

    Raises `DataError` for whatever does not fit: labels outside of ``num_classes``, missing files, images without
    labels.
    """
    root = Path(root)
    list_path, truth, real = (_label_file(root, name) for name in (list_file, ground_truth, real_labels))
    if not root.exists():
        raise DataError(f"{root}: no such file or folder, expected the images of a data set")
    if truth and (list_path or real):
        raise DataError(f"{list_path or real}, {truth}: each of these files gives labels; pass one of them")
    base = None if image_root is None else Path(image_root)
    source = _find(root, list_path, truth, num_classes, base, relabel=real is not None)
    if real:
        right, name = real_label_set(source.names, real, num_classes)
        source = source.relabelled(right, str(real), name)
    present = (label for labels in source.right for label in labels)
    source.label_set = recognise(source.label_set, source.root, source.names, present, num_classes, class_subset)
    return source


def _find(
    root: Path, list_path: Path | None, truth: Path | None, num_classes: int | None, base: Path | None, relabel: bool
) -> ImageSource:
    """The first reader that fits. ``relabel``: validation images need no labels, they get other ones."""
    if root.is_file():
        return _open_tar(root, list_path, truth, num_classes, relabel)
    if list_path is None and truth is None and (root / LIST_NAME).is_file():
        list_path = root / LIST_NAME
    if list_path:
        return _open_list(root, list_path, num_classes, base)
    folders, files = list_folder(root)
    if any(is_validation_name(name) for name in files):
        return _open_validation(root, folders, files, truth, num_classes, relabel)
    below = next((name for name in VALIDATION_FOLDERS if name in folders), None)
    if below and not set(folders) - PARTS:
        return _find(root / below, None, truth or find_ground_truth(root), num_classes, None, relabel)
    if (root / TAR_NAME).is_file():
        return _open_tar(root / TAR_NAME, None, truth, num_classes, relabel)
    if truth:
        raise DataError(f"{root}: no images ILSVRC2012_val_NNNNNNNN.JPEG here, which {truth} could label")
    return _open_folders(root, folders, files, num_classes)


def _label_file(root: Path, name: PathLike | None) -> Path | None:
    """A file of labels that was asked for: as it is named, or in the root."""
    if name is None:
        return None
    return root / name if not Path(name).exists() and (root / name).is_file() else Path(name)


def _open_list(root: Path, path: Path, num_classes: int | None, image_root: Path | None) -> ImageSource:
    rows = read_list(path, num_classes)
    base = image_root or root
    missing = missing_files(base, rows.names)
    if missing:
        if len(missing) == len(rows.names) and image_root is None and (root / TAR_NAME).is_file():
            return _open_tar(root / TAR_NAME, path, None, num_classes, relabel=False)
        first = rows.names[missing[0]]
        places = [base / name for name in VALIDATION_FOLDERS] + [base.parent, path.parent]
        found = next((place for place in places if (place / first).exists()), None)
        hint = f"it is in {found}: pass image_root={found}" if found else f"paths count from {base}"
        if not found and len(tars := sorted(root.glob("*.tar"))) == 1:
            hint = f"if they are in {tars[0]}, give that file"
        raise DataError(
            f"{rows.where(missing[0])}: no file {base / first} "
            f"({len(missing)} of the {len(rows.names)} files listed are missing); {hint}"
        )
    prefix = f"{base}/"
    names = [name[len(prefix) :] if name.startswith(prefix) else name for name in rows.names]
    return _listed(ImageSource("list file", base, names, rows.labels, str(path)), rows)


def _listed(source: ImageSource, rows: ImageList) -> ImageSource:
    return source.relabelled(rows.right, str(rows.path)) if rows.several else source


def _open_validation(
    root: Path, folders: list[str], files: list[str], truth: Path | None, num_classes: int | None, relabel: bool
) -> ImageSource:
    moved = sorted(set(folders) & set(imagenet_wnids()))
    if moved:
        raise DataError(
            f"{root}: has both {len(files)} validation images and class folders ({moved[0]}); finish moving"
        )
    if relabel:
        return ImageSource("validation images", root, files, [0] * len(files), "")
    return ImageSource("validation images", root, files, *_kit_labels(root, root, files, truth, num_classes))


def _kit_labels(
    place: Path, folder: Path, names: list[str], truth: Path | None, num_classes: int | None
) -> tuple[list[int], str]:
    truth = truth or find_ground_truth(folder)
    if truth is None:
        raise _no_labels(place)
    return validation_labels(names, truth, num_classes), str(truth)


def _open_tar(
    path: Path, list_path: Path | None, truth: Path | None, num_classes: int | None, relabel: bool
) -> ImageSource:
    tar = TarIndex(path)
    if not tar.names:
        raise DataError(f"{path}: no images in this tar")
    if list_path is None and truth is None and (path.parent / LIST_NAME).is_file():
        list_path = path.parent / LIST_NAME
    if list_path:
        rows = read_list(list_path, num_classes)
        return _listed(TarSource(tar, _names_in_tar(tar, rows), rows.labels, str(list_path)), rows)
    if relabel:
        return TarSource(tar, tar.names, [0] * len(tar.names), "")
    return TarSource(tar, tar.names, *_kit_labels(path, path.parent, tar.names, truth, num_classes))


def _names_in_tar(tar: TarIndex, rows: ImageList) -> list[str]:
    """The list's names as the tar has them: lists often say ``val/X.JPEG`` where the tar says ``X.JPEG``."""
    known = {name: name for name in tar.names}
    by_last: dict[str, list[str]] = {}
    for name in tar.names:
        by_last.setdefault(name.rpartition("/")[2], []).append(name)
    known.update({last: names[0] for last, names in by_last.items() if len(names) == 1})
    found = [known.get(name) or known.get(name.rpartition("/")[2]) for name in rows.names]
    missing = [row for row, name in enumerate(found) if name is None]
    if missing:
        raise DataError(
            f"{rows.where(missing[0])}: {rows.names[missing[0]]} is not in {tar.path} "
            f"({len(missing)} of the {len(rows.names)} files listed are missing)"
        )
    return [name for name in found if name is not None]


def _no_labels(root: Path) -> DataError:
    beside = root.parent / LIST_NAME
    hint = f"; {beside} exists: pass the folder {root.parent}, or this list" if beside.is_file() else ""
    return DataError(
        f"{root}: validation images without labels; pass a list file (lines 'ILSVRC2012_val_00000001.JPEG 65'), or the "
        f"development kit's {GROUND_TRUTH_NAME}, or move the images into one folder per class{hint}"
    )


def _open_folders(root: Path, folders: list[str], files: list[str], num_classes: int | None) -> ImageSource:
    if not folders:
        found = f"{len(files)} images without labels" if files else "no images"
        raise DataError(f"{root}: {found}; expected one folder per class, or {LIST_NAME} ('PATH LABEL' per line)")
    images = {folder: images_below(root / folder) for folder in folders}
    if not any(images.values()):
        raise DataError(f"{root}: no images in its {len(folders)} folders; expected one folder per class")
    labels, how = folder_labels(root, folders, num_classes)
    empty = [folder for folder in folders if not images[folder]]
    if empty and how.startswith("sorted"):
        raise DataError(f"{root / empty[0]}: no images, yet the folder counts as a class; fill it or remove it")
    rows = [(f"{folder}/{name}", labels[folder]) for folder in folders for name in images[folder]]
    return ImageSource("class folders", root, [row[0] for row in rows], [row[1] for row in rows], how)
