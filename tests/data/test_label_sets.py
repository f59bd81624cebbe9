"""The other published test sets: which labels, which classes, which name; and what does not fit, in one line."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_cait.data import label_sets
from paddle_cait.data.imagenet import imagenet_wnids
from paddle_cait.data.label_sets import LabelSet, comparable, recognise
from paddle_cait.data.sources import TAR_NAME, ImageSource, open_source
from paddle_cait.errors import DataError

# Bit i is set if label i is one of the 200 that the authors' eval.py looks at.
MASKS = {
    "ImageNet-A": int(
        "001d301800b48a827010020812050180404804a08a8090a01c210419612841240100008001200094201004000f000c0042c0002008b2062120"
        "c80500140001114801406300206052130897200404100a000801c4d8aefc24888820000040000c00000080000000000000c1801430025a0b46"
        "0090c0020484a048c2a840",
        16,
    ),
    "ImageNet-R": int(
        "0010b000a826ba8379000008008208080400108002011090200008194108000000001020002000000000060000202022220016088804004804"
        "000000080000008811e0c20182285200608222500011e60a0936c4888cf0293b02302a984ca40d80080188880804180f08db001424020a1b44"
        "10908080008080a4c02b56",
        16,
    ),
}


def classes_of(name: str) -> list[int]:
    return [label for label in range(1000) if MASKS[name] >> label & 1]


def fill(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def validation(*numbers: int) -> list[str]:
    return [f"ILSVRC2012_val_{number:08d}.JPEG" for number in numbers]


def real_json(path: Path, **entries: Any) -> Path:
    """50,000 entries [n % 1000] but for those given: ``_3=[1, 2]`` is image 3's."""
    table: list[Any] = [[n % 1000] for n in range(1, 50001)]
    for key, labels in entries.items():
        table[int(key[1:]) - 1] = labels
    path.write_text(json.dumps(table))
    return path


def pairs(source: ImageSource) -> list[tuple[str, tuple[int, ...]]]:
    return list(zip(source.names, source.right))


# --- ImageNet-ReaL


def test_real_labels_go_by_the_name_in_every_layout(tmp_path: Path) -> None:
    """The first entry is image 00000001's, whatever images the folder lacks and whatever order they come in."""
    names = validation(50000, 7, 3, 1)
    real = real_json(tmp_path / "real.json", _1=[970, 795], _3=[], _50000=[5, 0])
    expected = {names[0]: (5, 0), names[1]: (7,), names[3]: (970, 795)}

    plain = fill(tmp_path / "plain", names)
    listed = fill(tmp_path / "listed", names)
    (listed / "val_list.txt").write_text("".join(f"{name} 999\n" for name in names))  # its labels are not these
    folders = fill(tmp_path / "folders", [f"n01440764/{name}" for name in names])
    with tarfile.open(tmp_path / TAR_NAME, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))

    for root in (plain, listed, folders, tmp_path / TAR_NAME):
        source = open_source(root, num_classes=1000, real_labels=real)
        assert {name.rpartition("/")[2]: right for name, right in pairs(source)} == expected
        assert source.labels == [right[0] for right in source.right]
        assert source.label_set.not_counted == 1
        assert [source.read(i).decode() for i in range(3)] == source.names
        assert pickle.loads(pickle.dumps(source)).right == source.right
    text = open_source(plain, real_labels=real).describe()
    assert text == (
        f"3 images of 5 classes from {plain} (validation images: {real}; labels of real.json, any of an image's labels "
        "is right, 1 more without a label not counted)"
    )


def test_only_the_published_labels_are_called_imagenet_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = real_json(tmp_path / "real.json")
    root = fill(tmp_path / "val", validation(1, 2))
    assert open_source(root, real_labels=real).label_set.name == "labels of real.json"
    compact = json.dumps(json.loads(real.read_text()), separators=(",", ":"))
    monkeypatch.setattr(label_sets, "_REAL_DIGEST", label_sets._digest(compact))
    assert open_source(root, real_labels=real).label_set.name == "ImageNet-ReaL"
    assert open_source(root, real_labels=real_json(real, _7=[7, 8])).label_set.name == "labels of real.json"


def test_real_labels_change_the_fingerprint(tmp_path: Path) -> None:
    root = fill(tmp_path / "val", validation(1, 2))
    prints = {
        open_source(root, real_labels=real_json(tmp_path / "real.json", **changes)).fingerprint
        for changes in ({}, {"_1": [1, 2]}, {"_1": []})
    }
    (root / "val_list.txt").write_text("".join(f"{name} {i + 1}\n" for i, name in enumerate(validation(1, 2))))
    assert len(prints) == 3 and open_source(root).fingerprint in prints  # the same labels, one an image


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON, expected real.json of google-research"),
        ("[" * 100000, "is not JSON"),
        ("{}", "holds a JSON dict, expected a list of 50,000 lists"),
        ("[[1], [2]]", "holds 2 entries, expected a list of 50,000 lists"),
        (
            {"_4": [1, 1]},
            r"entry 4 \(ILSVRC2012_val_00000004\) is \[1, 1\], expected a list of different labels 0..999",
        ),
        ({"_5": [1000]}, r"entry 5 .* is \[1000\]"),
        ({"_5": [-1]}, r"entry 5 .* is \[-1\]"),
        ({"_5": [1.0]}, r"entry 5 .* is \[1.0\]"),
        ({"_5": [True]}, r"entry 5 .* is \[true\]"),
        ({"_5": 3}, "entry 5 .* is 3"),
        ({"_5": "1\n2"}, "entry 5 .* is"),
        ({"_1": [], "_2": []}, "gives none of the 2 images in .*val a label"),
    ],
)
def test_real_labels_that_are_none(content: Any, message: str, tmp_path: Path) -> None:
    root, real = fill(tmp_path / "val", validation(1, 2)), tmp_path / "real.json"
    if isinstance(content, str):
        real.write_text(content)
    else:
        real_json(real, **content)
    with pytest.raises(DataError, match=f"real.json: {message}") as caught:
        open_source(root, real_labels=real)
    assert "\n" not in str(caught.value)


def test_real_labels_for_other_images_or_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = real_json(tmp_path / "real.json")
    root = fill(tmp_path / "val", validation(1))
    for num_classes in (5, 21843):
        with pytest.raises(DataError, match=f"gives the 1000 ILSVRC2012 classes, the model has {num_classes}"):
            open_source(root, real_labels=real, num_classes=num_classes)
    with pytest.raises(DataError, match="ground.txt: each of these files gives labels; pass one of them"):
        open_source(root, ground_truth=tmp_path / "ground.txt", real_labels=real)
    with pytest.raises(DataError, match=r"none.json: the labels cannot be read \(No such file"):
        open_source(root, real_labels=tmp_path / "none.json")
    for name in validation(0, 50001):
        with pytest.raises(DataError, match=rf"{name}: .*real.json labels only images named .*00001.JPEG .. _00050000"):
            open_source(fill(tmp_path / name, [name]), real_labels=real)
    with pytest.raises(DataError, match=r"cats/cat.jpg: .* labels only images named"):
        open_source(fill(tmp_path / "cats", ["cats/cat.jpg", "dogs/dog.jpg"]), real_labels=real)
    monkeypatch.setattr(label_sets, "_REAL_MOST_BYTES", 1000)
    with pytest.raises(DataError, match="is larger than"):
        open_source(root, real_labels=real)


# --- ImageNetV2


def test_imagenetv2s_folder_names_are_the_labels(tmp_path: Path) -> None:
    root = fill(
        tmp_path / "imagenetv2-matched-frequency-format-val", [f"{label}/{label}.jpeg" for label in range(1000)]
    )
    for num_classes in (None, 1000):
        source = open_source(root, num_classes=num_classes)
        assert all(int(name.partition("/")[0]) == label for name, label in zip(source.names, source.labels))
        assert source.label_set == LabelSet("ImageNetV2", num_classes=1000)
    assert source.names[1:4] == ["1/1.jpeg", "10/10.jpeg", "100/100.jpeg"]
    assert source.describe().endswith("(class folders: the folders' names are the labels; ImageNetV2)")
    for num_classes in (5, 21843):
        with pytest.raises(
            DataError, match=f"folders 0..999 are the classes of ILSVRC2012, the model has {num_classes}"
        ):
            open_source(root, num_classes=num_classes)
    (root / "0").rename(root / "1000")
    for num_classes in (None, 1000):
        with pytest.raises(DataError, match=r"folders named by numbers 1..1000, which are not the labels 0..999"):
            open_source(root, num_classes=num_classes)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("imagenetv2-matched-frequency-format-val", "ImageNetV2"),
        ("imagenet-matched-frequency-format-val", "ImageNetV2"),
        ("imagenetv2-threshold0.7-format-val", "ImageNetV2 threshold0.7"),
        ("imagenetv2-threshold-0.7/val", "ImageNetV2 threshold0.7"),
        ("imagenetv2-top-images-format-val", "ImageNetV2 top-images"),
        ("v2", "ImageNetV2 of unknown variant"),
        ("my-top-images/val", "ImageNetV2 of unknown variant"),
    ],
)
def test_which_imagenetv2(folder: str, name: str, tmp_path: Path) -> None:
    names = [f"{label}/{i}.jpeg" for label in range(1000) for i in range(10)]
    found = recognise(LabelSet(), tmp_path / folder, names, range(1000), 1000, "auto")
    assert found.name == name and found.num_classes == 1000 and found.classes is None
    assert ("its folder's own name would tell" in found.note()) == (name == "ImageNetV2 of unknown variant")


def test_numbered_folders_of_another_data_set_keep_their_text_order(tmp_path: Path) -> None:
    root = fill(tmp_path, [f"{number}/a.jpg" for number in range(1, 12)])
    source = open_source(root, num_classes=11)
    assert pairs(source)[:3] == [("1/a.jpg", (0,)), ("10/a.jpg", (1,)), ("11/a.jpg", (2,))]
    assert source.describe().endswith("sorted folder names, as text: 10 before 2)")
    with pytest.raises(DataError, match="11 class folders for 1000 classes"):
        open_source(root, num_classes=1000)


# --- ImageNet-A, ImageNet-R, ImageNet-Sketch and other subsets


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("num_classes", [None, 1000])
def test_the_two_hundred_classes_are_recognised(name: str, num_classes: int | None, tmp_path: Path) -> None:
    wnids, classes = imagenet_wnids(), classes_of(name)
    root = fill(tmp_path, ["README.txt", *(f"{wnids[label]}/art_0.jpg" for label in classes)])
    source = open_source(root, num_classes=num_classes)
    assert source.labels == classes
    assert source.label_set == LabelSet(name, classes=tuple(classes), num_classes=1000)
    assert source.describe().endswith(f"(class folders: WordNet ids; {name}, over 200 of 1,000 classes)")
    everything = open_source(root, num_classes=num_classes, class_subset="all").label_set
    assert everything == LabelSet(f"{name} among all classes", num_classes=1000)
    assert open_source(root, num_classes=num_classes, class_subset="present").label_set == source.label_set
    assert open_source(root, num_classes=200).label_set == LabelSet()  # weights of their own 200 classes


def test_validation_images_of_the_two_hundred_classes(tmp_path: Path) -> None:
    """timm's imagenet-a-clean: the ordinary images of ImageNet-A's classes."""
    wnids, classes = imagenet_wnids(), classes_of("ImageNet-A")
    root = fill(tmp_path, [f"{wnids[label]}/{validation(label + 1)[0]}" for label in classes])
    assert open_source(root).label_set == LabelSet("ImageNet-A-clean", classes=tuple(classes), num_classes=1000)


def test_another_subset_is_restricted_on_demand_only(tmp_path: Path) -> None:
    root = fill(tmp_path, [f"{wnid}/a.jpg" for wnid in imagenet_wnids()[5:8]])
    assert open_source(root, num_classes=1000).label_set == LabelSet()
    source = open_source(root, num_classes=1000, class_subset="present")
    assert source.label_set == LabelSet("subset of 3 classes", classes=(5, 6, 7), num_classes=1000)
    assert source.describe().endswith("; subset of 3 classes, over 3 of 1,000 classes)")
    assert open_source(root, class_subset="present").label_set.note() == "subset of 3 classes, over 3 classes"
    assert open_source(root, num_classes=3, class_subset="present").label_set == LabelSet()  # all that it has
    with pytest.raises(DataError, match="class_subset is 'some', expected one of auto, all, present"):
        open_source(root, class_subset="some")


def test_class_folders_for_a_model_of_other_classes(tmp_path: Path) -> None:
    root = fill(tmp_path, [f"{wnid}/a.jpg" for wnid in imagenet_wnids()[:3]])
    with pytest.raises(DataError, match=r"3 folders of ILSVRC2012 classes \(n01440764\), the model has 21843; pass"):
        open_source(root, num_classes=21843)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["n01440764/sketch_0.JPEG", "n01443537/sketch_12.JPEG"], "ImageNet-Sketch"),
        (["n01440764/sketch_0.JPEG", "n01443537/0.JPEG"], "unnamed"),
        (["n01440764/ILSVRC2012_val_00000293.JPEG", "n01443537/ILSVRC2012_val_00000236.JPEG"], "ILSVRC2012"),
    ],
)
def test_images_are_known_by_their_names(names: list[str], name: str, tmp_path: Path) -> None:
    source = open_source(fill(tmp_path, names), num_classes=1000)
    assert source.label_set.name == name
    assert source.describe().endswith("WordNet ids; ImageNet-Sketch)" if name == "ImageNet-Sketch" else "WordNet ids)")
    assert open_source(tmp_path, num_classes=2).label_set.name == "unnamed"  # labels of one's own


# --- lists with several labels


def test_a_list_with_several_labels(tmp_path: Path) -> None:
    fill(tmp_path, ["a.jpg", "b c.jpg", "d.jpg"])
    (tmp_path / "val_list.txt").write_text("a.jpg 3,17\nb c.jpg\t4\n./d.jpg 0,3,1\n")
    source = open_source(tmp_path, num_classes=20)
    assert pairs(source) == [("a.jpg", (3, 17)), ("b c.jpg", (4,)), ("d.jpg", (0, 3, 1))]
    assert source.labels == [3, 4, 0] and source.label_set.labels_per_image == 2
    assert source.label_set.name == "several labels an image" and source.label_set.classes is None
    assert (
        source.describe().startswith("3 images of 5 classes")
        and "any of an image's labels is right" in source.describe()
    )
    present = open_source(tmp_path, num_classes=20, class_subset="present").label_set
    assert present.name == "several labels an image, subset of 5 classes" and present.classes == (0, 1, 3, 4, 17)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.jpg 3,5", r":2: the label 5 does not fit 5 classes \(0..4\)$"),
        ("b.jpg 3,-1", ":2: the label -1 is negative"),
        ("b.jpg 3,", ":2: the label '' is not an integer, expected 'PATH LABEL' or 'PATH 3,17'"),
        ("b.jpg 3,x", ":2: the label 'x' is not an integer"),
        ("b.jpg 3;1", ":2: the label '3;1' is not an integer"),
        ("b.jpg 3, 1", ":2: several labels are written without spaces, 'PATH 3,17'"),
        ("b.jpg 3,1,3", ":2: 3,1,3 has a label twice"),
        ("b.jpg " + "9" * 5000, ":2: the label '9{40}' is not an integer"),
    ],
)
def test_wrong_lists_name_the_line(line: str, message: str, tmp_path: Path) -> None:
    fill(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "val_list.txt").write_text(f"a.jpg 0,1\n{line}\n")
    with pytest.raises(DataError, match=f"val_list.txt{message}"):
        open_source(tmp_path, num_classes=5)


# --- which numbers compare


@pytest.mark.parametrize(
    ("found", "published", "expected"),
    [
        ("unnamed", "ILSVRC2012", True),
        ("unnamed", "my flowers", True),
        ("unnamed", "ImageNet-ReaL", False),
        ("unnamed", "ImageNetV2", False),
        ("ILSVRC2012", "ILSVRC2012", True),
        ("ILSVRC2012", "ImageNet-ReaL", False),
        ("ImageNet-ReaL", "ILSVRC2012", False),
        ("ImageNet-ReaL", "ImageNet-ReaL", True),
        ("ImageNet-A among all classes", "ImageNet-A", False),
        ("ImageNetV2 top-images", "ImageNetV2", False),
        ("several labels an image", "ILSVRC2012", False),
        ("subset of 10 classes", "ILSVRC2012", False),
    ],
)
def test_comparable(found: str, published: str, expected: bool) -> None:
    assert comparable(found, published) == expected


def test_chance_counts_the_labels_of_an_image() -> None:
    assert LabelSet().labels_per_image == 1
    assert LabelSet(right=((1,), (2, 3), (4, 5, 6))).labels_per_image == 2
    assert np.isclose(LabelSet(right=((1, 2), (3,))).labels_per_image, 1.5)
