"""Which images, with which labels: every layout people have, and every mistake they make with it."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from pathlib import Path

import pytest
from image_sets import IDS, LABELS, VALIDATION, fill, ground_truth, pairs, write

from paddle_cait.data import imagenet
from paddle_cait.data.ground_truth import GROUND_TRUTH_NAME
from paddle_cait.data.sources import open_source
from paddle_cait.errors import DataError

# --- the class table


def test_class_table() -> None:
    wnids, names, to_label = imagenet.imagenet_wnids(), imagenet.imagenet_class_names(), imagenet.ilsvrc_id_to_label()
    assert len(wnids) == len(set(wnids)) == len(names) == 1000
    assert wnids == sorted(wnids)
    assert (wnids[0], names[0], wnids[999], names[999]) == ("n01440764", "tench", "n15075141", "toilet tissue")
    assert names[2] == "great white shark"
    assert sorted(to_label) == list(range(1, 1001))
    assert sorted(to_label.values()) == list(range(1000))
    assert [to_label[i] for i in IDS] == LABELS
    assert to_label[449] == 0
    assert (wnids[to_label[1]], wnids[to_label[1000]]) == ("n02119789", "n03255030")  # kit fox, dumbbell
    digest = hashlib.sha256("".join(f"{to_label[i]}\n" for i in range(1, 1001)).encode()).hexdigest()
    assert digest.startswith("da0d486f24dc667f")  # the permutation that was checked on all 50,000 validation labels


# --- list files


def test_list_in_the_root(tmp_path: Path) -> None:
    fill(tmp_path, "b.JPEG", "a.JPEG")
    write(tmp_path / "val_list.txt", "b.JPEG 3\na.JPEG 1\n")
    source = open_source(tmp_path)
    assert pairs(source) == [("b.JPEG", 3), ("a.JPEG", 1)]
    assert source.read(0) == b"b.JPEG"
    assert source.path(1) == str(tmp_path / "a.JPEG")
    assert source.kind == "list file"
    assert source.describe() == f"2 images of 2 classes from {tmp_path} (list file: {tmp_path}/val_list.txt)"
    assert source.fingerprint == hashlib.sha256(b"b.JPEG 3\na.JPEG 1\n").hexdigest()


def test_every_way_to_write_a_list(tmp_path: Path) -> None:
    fill(tmp_path, "a b.jpg", "val/c.png", "d.jpg", "照片.jpg", "e.jpg")
    text = "\ufeff# comment\r\na b.jpg 0\r\n\r\nval/c.png\t1\r\n./d.jpg \t 2 \r\n照片.jpg 3\r\n" + f"{tmp_path}/e.jpg 4"
    source = open_source(tmp_path, list_file=write(tmp_path / "lists/my.txt", text))
    assert pairs(source) == [("a b.jpg", 0), ("val/c.png", 1), ("d.jpg", 2), ("照片.jpg", 3), ("e.jpg", 4)]
    assert source.read(3) == "照片.jpg".encode()


def test_absolute_paths_and_image_root(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", "x/1.jpg", "x/2.jpg")
    (tmp_path / "root").mkdir()
    listed = write(tmp_path / "root" / "val_list.txt", f"{images}/x/1.jpg 0\n{images}/x/2.jpg 1\n")
    assert open_source(tmp_path / "root").read(1) == b"x/2.jpg"
    listed.write_text("x/1.jpg 0\nx/2.jpg 1\n")
    assert open_source(tmp_path / "root", image_root=images).read(1) == b"x/2.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg 0\n\nb.jpg one\n", r"list.txt:3: the label 'one' is not an integer"),
        ("a.jpg 0\nb.jpg 1.0\n", r"list.txt:2: the label '1.0' is not an integer"),
        ("a.jpg 0\nb.jpg +-1\n", r"list.txt:2: the label '\+-1' is not an integer"),
        ("a.jpg 0\nb.jpg\n", r"list.txt:2: expected 'PATH LABEL'"),
        ("a.jpg,0\n", r"list.txt:1: expected 'PATH LABEL'"),
        ("a.jpg 0\nb.jpg -1\n", r"list.txt:2: the label -1 is negative"),
        ("# c\na.jpg 2\nb.jpg 5\n", r"list.txt:3: the label 5 does not fit 5 classes \(0..4\)$"),
        ("a.jpg 1\nb.jpg 5\n", r"list.txt:2: the label 5 does not fit 5 classes .* count from 1: subtract 1"),
        ("a.jpg 0\nb.jpg 1\na.jpg 1\n", r"list.txt:3: a.jpg is already in line 1"),
        ("\n# nothing\n", r"list.txt: the list is empty"),
        ("a.jpg 0\nnone.jpg 1\nb.jpg 2\nnada.jpg 3\n", r"list.txt:2: no file .*none.jpg \(2 of the 4 .* missing\)"),
    ],
)
def test_wrong_lists_name_the_line(text: str, message: str, tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(DataError, match=message):
        open_source(tmp_path, write(tmp_path / "list.txt", text), num_classes=5)


def test_a_utf16_list_and_no_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("a.jpg 0\n".encode("utf-16"))
    with pytest.raises(DataError, match="save the list as UTF-8"):
        open_source(tmp_path, tmp_path / "list.txt")
    with pytest.raises(DataError, match=r"nolist.txt: the list file cannot be read"):
        open_source(tmp_path, tmp_path / "nolist.txt")


def test_missing_files_are_found_for_you(tmp_path: Path) -> None:
    fill(tmp_path, "val/a.jpg", "b.jpg")
    listed = write(tmp_path / "list.txt", "a.jpg 0\n")
    with pytest.raises(DataError, match=f"it is in {tmp_path}/val: pass image_root={tmp_path}/val"):
        open_source(tmp_path, listed)
    assert open_source(tmp_path, listed, image_root=tmp_path / "val").read(0) == b"val/a.jpg"
    with pytest.raises(DataError, match=f"pass image_root={tmp_path}$"):
        open_source(tmp_path / "val", write(tmp_path / "list2.txt", "val/a.jpg 0\n"))


def test_a_tar_beside_a_list_of_missing_files_is_named(tmp_path: Path) -> None:
    listed = write(tmp_path / "val_list.txt", "a.jpg 0\n")
    (tmp_path / "photographs.tar").write_bytes(b"")
    with pytest.raises(DataError, match=f"if they are in {tmp_path}/photographs.tar, give that file"):
        open_source(tmp_path, listed)


@pytest.mark.parametrize("hole", [7, 99])
def test_missing_files_in_crowded_folders(hole: int, tmp_path: Path) -> None:
    names = [f"val/{i:03d}.jpg" for i in range(100)]
    fill(tmp_path, *[name for i, name in enumerate(names) if i != hole])
    write(tmp_path / "val_list.txt", "".join(f"{name} 0\n" for name in names))
    with pytest.raises(DataError, match=rf"val_list.txt:{hole + 1}: no file .*/{hole:03d}.jpg \(1 of the 100 "):
        open_source(tmp_path)


# --- validation images and the development kit's ground truth


@pytest.mark.parametrize("place", ["", "data", "ILSVRC2012_devkit_t12/data", ".."])
def test_validation_images_with_ground_truth(place: str, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", *VALIDATION, "._" + VALIDATION[0], "notes.txt")
    ground_truth(root / place)
    assert pairs(open_source(root, num_classes=1000)) == list(zip(VALIDATION, LABELS))


def test_a_subset_goes_by_the_numbers(tmp_path: Path) -> None:
    root = fill(tmp_path / "few", VALIDATION[4], VALIDATION[1])
    source = open_source(root, ground_truth=ground_truth(tmp_path / "kit"))
    assert pairs(source) == [(VALIDATION[1], LABELS[1]), (VALIDATION[4], LABELS[4])]
    assert source.kind == "validation images"


def test_ground_truth_that_is_none(tmp_path: Path) -> None:
    root, truth = fill(tmp_path / "set", *VALIDATION), tmp_path / "truth.txt"
    with pytest.raises(DataError, match=r"validation images without labels; pass a list file .* development kit"):
        open_source(root)
    for text, message in (
        ("66\n971\n231\n810\n517\n", r"begins with \[66, 971.*another numbering"),
        ("490\n361\n0\n", r"truth.txt:3: '0' is not an ILSVRC2012_ID"),
        ("490\n1001\n", r"truth.txt:2: '1001' is not"),
        ("490\nn01751748\n", r"truth.txt:2: 'n01751748' is not"),
        ("", "begins with"),
        ("490\n361\n171\n822\n\n", r"_00000005.JPEG: .*no line 5 \(it has 4"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(root, ground_truth=write(truth, text))
    ground_truth(root)
    with pytest.raises(DataError, match="1000 ILSVRC2012 classes, the model has 10"):
        open_source(root, num_classes=10)
    fill(root, "cat.jpg")
    with pytest.raises(DataError, match=r"cat.jpg: .* labels only images named"):
        open_source(root)


def test_half_moved_validation_images(tmp_path: Path) -> None:
    fill(tmp_path, VALIDATION[0], f"n01440764/{VALIDATION[1]}")
    ground_truth(tmp_path)
    with pytest.raises(DataError, match="both 1 validation images and class folders"):
        open_source(tmp_path)


def test_two_sources_of_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pass one of them"):
        open_source(tmp_path, list_file=tmp_path / "a", ground_truth=tmp_path / "b")


# --- class folders


def test_wordnet_folders_are_mapped_exactly(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "n01443537/b.JPEG",
        "n01443537/a.JPEG",
        "n15075141/c.jpg",
        "n02119789/d.png",
        "n02119789/.e.png",
        "x.txt",
    )
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for num_classes in (None, 1000):
        source = open_source(tmp_path, num_classes=num_classes)
        assert pairs(source) == [
            ("n01443537/a.JPEG", 1),
            ("n01443537/b.JPEG", 1),
            ("n02119789/d.png", 278),
            ("n15075141/c.jpg", 999),
        ]
        assert source.describe().endswith("(class folders: WordNet ids)")
    assert open_source(tmp_path, num_classes=3).labels == [0, 0, 1, 2]


def test_other_folders_are_numbered(tmp_path: Path) -> None:
    fill(tmp_path, "dog/2.jpg", "cat/x/3.jpg", "cat/1.jpg", "Zebra/4.webp", "cat/readme.md", "cat/b.jpg")
    source = open_source(tmp_path, num_classes=3)
    assert pairs(source) == [
        ("Zebra/4.webp", 0),
        ("cat/1.jpg", 1),
        ("cat/b.jpg", 1),
        ("cat/x/3.jpg", 1),
        ("dog/2.jpg", 2),
    ]
    assert open_source(tmp_path).describe().endswith("(class folders: sorted folder names)")
    with pytest.raises(DataError, match=r"3 class folders for 4 classes; .*shifts every label after it"):
        open_source(tmp_path, num_classes=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no images, yet the folder counts as a class"):
        open_source(tmp_path, num_classes=4)


def test_folder_order_is_torchvisions(tmp_path: Path) -> None:
    fill(tmp_path, "a/z/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg", "a/9.jpg", "a/10.JPG", "B/1.jpeg")
    expected = []
    for label, folder in enumerate(sorted(["a", "B"])):
        for base, _, files in sorted(os.walk(tmp_path / folder)):
            expected += [(str(Path(base, name).relative_to(tmp_path)), label) for name in sorted(files)]
    assert pairs(open_source(tmp_path)) == expected


def test_a_stranger_among_wordnet_folders(tmp_path: Path) -> None:
    fill(tmp_path, "n01440764/a.jpg", "n01443537/a.jpg", "backup/a.jpg")
    with pytest.raises(DataError, match="backup: not a class of ILSVRC2012, as n01440764 is"):
        open_source(tmp_path)
    assert open_source(tmp_path, num_classes=3).labels == [0, 1, 2]


@pytest.mark.parametrize("inner", ["val", "ILSVRC2012_img_val"])
def test_val_below_the_root(inner: str, tmp_path: Path) -> None:
    fill(tmp_path, f"{inner}/n01440764/a.jpg", "train/n01440764/b.jpg")
    assert pairs(open_source(tmp_path)) == [("n01440764/a.jpg", 0)]


def test_val_below_the_root_with_kit_beside(tmp_path: Path) -> None:
    fill(tmp_path / "val", *VALIDATION)
    ground_truth(tmp_path / "ILSVRC2012_devkit_t12" / "data")
    assert open_source(tmp_path).labels == LABELS
    assert open_source(tmp_path / "val").labels == LABELS


def test_the_list_beside_val_is_pointed_to(tmp_path: Path) -> None:
    fill(tmp_path / "val", *VALIDATION)
    write(tmp_path / "val_list.txt", f"val/{VALIDATION[0]} 65\n")
    with pytest.raises(DataError, match=f"val_list.txt exists: pass the folder {tmp_path}"):
        open_source(tmp_path / "val")
    assert open_source(tmp_path).labels == [65]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no images; expected one folder per class, or val_list.txt"),
        (["a.jpg", "b.jpg"], "2 images without labels; expected one folder per class, or val_list.txt"),
        (["a/readme.txt", "b/c.txt"], "no images in its 2 folders"),
        (["mydata/cat/1.jpg", "mydata/dog/1.jpg"], "not of classes; pass one, as .*/mydata"),
        (["train/cat/1.jpg", "test/dog/1.jpg"], "not of classes; pass one, as .*/test"),
    ],
)
def test_folders_that_are_no_data_set(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        open_source(fill(tmp_path, *names))


def test_no_folder() -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_source("/nonexistent/imagenet")


# --- all kinds


def test_fingerprint_depends_on_names_labels_and_order_only(tmp_path: Path) -> None:
    prints = {}
    for key, text in {
        "here": "a.jpg 0\nb.jpg 1\n",
        "there": "a.jpg 0\nb.jpg 1\n",
        "label": "a.jpg 0\nb.jpg 2\n",
        "order": "b.jpg 1\na.jpg 0\n",
        "fewer": "a.jpg 0\n",
    }.items():
        fill(tmp_path / key, "a.jpg", "b.jpg")
        write(tmp_path / key / "val_list.txt", text)
        prints[key] = open_source(tmp_path / key).fingerprint
    assert prints["here"] == prints["there"]
    assert len(set(prints.values())) == 4


def test_sources_are_picklable(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    copy = pickle.loads(pickle.dumps(open_source(tmp_path)))
    assert (copy.read(1), copy.labels) == (b"b/2.jpg", [0, 1])


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    source = open_source(fill(tmp_path, "a/1.jpg", "b/2.jpg"))
    (tmp_path / "b/2.jpg").unlink()
    with pytest.raises(DataError, match=r"b/2.jpg: cannot be read"):
        source.read(1)


@pytest.mark.parametrize("layout", ["list", "folders", "flat"])
def test_fifty_thousand_images_open_in_seconds(layout: str, tmp_path: Path) -> None:
    names = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 50_001)]
    if layout == "folders":
        wnids = imagenet.imagenet_wnids()
        names = [f"{wnids[i % 1000]}/{name}" for i, name in enumerate(names)]
        for wnid in wnids:
            (tmp_path / wnid).mkdir()
    for name in names:
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY))
    if layout == "list":
        write(tmp_path / "val_list.txt", "".join(f"{name} {i % 1000}\n" for i, name in enumerate(names)))
    if layout == "flat":
        ids = IDS + [482, 13, 704] + [1 + i % 1000 for i in range(49_992)]
        write(tmp_path / GROUND_TRUTH_NAME, "".join(f"{i}\n" for i in ids))
    start = time.perf_counter()
    source = open_source(tmp_path, num_classes=1000)
    assert len(source) == 50_000
    assert len(source.fingerprint) == 64
    assert time.perf_counter() - start < 10  # measured 0.2 to 0.5 s on a slow disk's machine; wide for busy ones


def test_a_list_is_also_looked_for_in_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"x")
    (root / "mine.txt").write_text("a.jpg 3\n")
    assert open_source("data", "mine.txt").labels == [3]
    (tmp_path / "mine.txt").write_text("a.jpg 4\n")  # the name as it is given comes first
    assert open_source("data", "mine.txt").labels == [4]
    with pytest.raises(DataError, match=r"other.txt: the list file cannot be read"):
        open_source("data", "other.txt")
