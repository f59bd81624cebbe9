"""Lists from class folders: the same share of each class, the same for the same seed, all lists or none."""

import json

import numpy as np
import pytest
from PIL import Image

from paddle_cait.cli.main import main
from paddle_cait.data.split import split_folders, write_split
from paddle_cait.errors import DataError
from paddle_cait.training.datasets import open_training_data

COUNTS = {"daisy": 20, "东北虎": 3, "wild rose": 10}  # sorted: daisy, wild rose, 东北虎
NAMES = sorted(COUNTS)


@pytest.fixture
def root(tmp_path):
    for name, count in COUNTS.items():
        for i in range(count):
            path = tmp_path / "flowers" / name / ("deep/er" if i % 4 == 3 else "") / f"photo {i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(path)
    (tmp_path / "flowers" / "daisy" / "notes.txt").write_text("no image")
    return tmp_path / "flowers"


def test_shares_of_each_class(root):
    split = split_folders(root, val=0.2, test=0.1)
    assert split.names == NAMES
    assert split.counts() == {"train": [14, 7, 1], "val": [4, 2, 1], "test": [2, 1, 1]}
    every = [path for rows in split.rows.values() for path, _ in rows]
    assert sorted(every) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    assert all(NAMES[label] == path.split("/")[0] for rows in split.rows.values() for path, label in rows)


def test_the_seed_decides(root):
    one, same, other = (split_folders(root, 0.2, seed=seed).rows["val"] for seed in (0, 0, 1))
    assert one == same != other and len(one) == len(other)
    (root / "zinnia").mkdir()
    for i in range(4):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / "zinnia" / f"{i}.png")
    more = [row for row in split_folders(root, 0.2).rows["val"] if row[1] < 2]
    assert more == [row for row in one if row[1] < 2], "a class that sorts behind changes no other"


def test_training_reads_them_back(root):
    split = split_folders(root)
    write_split(split, root)
    data = open_training_data(root)
    assert data.names == NAMES and data.num_classes == 3
    assert list(zip(data.train.names, data.train.labels)) == split.rows["train"]
    assert list(zip(data.val.names, data.val.labels)) == split.rows["val"]


def test_the_command(root, capsys, tmp_path):
    words = ["split", str(root), "--val", "0.2", "--output-dir", str(tmp_path / "lists")]
    (tmp_path / "lists").mkdir()
    assert main([*words, "--json", str(tmp_path / "split.json")]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["class", "train", "val"] and ["all", "26", "7"] in rows
    assert json.loads((tmp_path / "split.json").read_text())["counts"] == {"train": [16, 8, 2], "val": [4, 2, 1]}
    assert main(words) == 2
    assert "labels.txt: exists already; --force writes all lists anew" in capsys.readouterr().err
    assert main([*words, "--force", "--seed", "1"]) == 0


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"val": 0.0}, "val is 0.0 and test 0.0, expected shares of 1"),
        ({"val": 0.5, "test": 0.5}, "val is 0.5 and test 0.5, expected shares of 1"),
        ({"val": float("nan")}, "val is nan"),
        ({"test": 0.1}, "东北虎: 2 images, expected at least 3, one for each list"),
    ],
)
def test_mistakes(root, shares, message):
    (root / "东北虎" / "photo 00.png").unlink()
    with pytest.raises(DataError, match=message):
        split_folders(root, **shares)


def test_what_is_no_set_of_class_folders(root):
    with pytest.raises(DataError, match="none: no such folder, expected one folder per class"):
        split_folders(root / "none")
    with pytest.raises(DataError, match="deep: expected a folder for each of at least two classes, found 1"):
        split_folders(root / "daisy" / "deep")


def test_nothing_is_written_where_something_is_in_the_way(root):
    (root / "val_list.txt").write_text("mine\n")
    with pytest.raises(DataError, match="val_list.txt: exists already; --force writes all lists anew"):
        write_split(split_folders(root), root)
    assert not (root / "train_list.txt").exists() and (root / "val_list.txt").read_text() == "mine\n"
