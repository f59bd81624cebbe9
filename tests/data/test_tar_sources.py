"""ILSVRC2012_img_val.tar as it was downloaded: read in place, damaged, or hostile."""

from __future__ import annotations

import multiprocessing
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_sets import LABELS, VALIDATION, fill, ground_truth, make_tar, pairs, write

from paddle_cait.data.sources import TAR_NAME, ImageSource, open_source
from paddle_cait.errors import DataError


def test_tar_with_ground_truth_beside(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / TAR_NAME, ["./" + VALIDATION[1], VALIDATION[0], "._x.JPEG", "notes.txt"])
    ground_truth(tmp_path)
    for root in (tar, tmp_path):
        source = open_source(root)
        assert pairs(source) == list(zip(VALIDATION[:2], LABELS))
        assert source.read(0).endswith(VALIDATION[0].encode())
        assert source.read(1).endswith(VALIDATION[1].encode())
        assert source.path(1) == f"{tar}:{VALIDATION[1]}"
        assert source.kind == "tar"


def test_tar_with_a_list(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / TAR_NAME, VALIDATION)
    listed = write(tmp_path / "val_list.txt", f"val/{VALIDATION[3]} 7\n{VALIDATION[0]} 8\n")
    for source in (open_source(tar), open_source(tmp_path), open_source(tar, list_file=listed)):
        assert pairs(source) == [(VALIDATION[3], 7), (VALIDATION[0], 8)]
        assert [source.read(i) for i in range(2)] == [VALIDATION[3].encode(), VALIDATION[0].encode()]
    write(listed, f"{VALIDATION[0]} 8\nnone.jpg 7\n")
    with pytest.raises(DataError, match=r"val_list.txt:2: none.jpg is not in .*\(1 of the 2 "):
        open_source(tar)


def test_tar_without_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without labels; pass a list file"):
        open_source(make_tar(tmp_path / TAR_NAME, VALIDATION))


def test_damaged_tars(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / TAR_NAME, VALIDATION)
    ground_truth(tmp_path)
    data = tar.read_bytes()
    for length, message in (
        (512 * 3 + 10, "cut off at ILSVRC2012_val_00000002.JPEG after 1 images"),  # inside of the second image
        (512 * 4, "cut off at its end after 2 images"),  # exactly between two
        (512 * 4 + 100, "cut off|damaged"),  # inside of a header
        (0, "not a tar file"),
    ):
        tar.write_bytes(data[:length])
        with pytest.raises(DataError, match=message) as caught:
            open_source(tar)
        assert str(tar) in str(caught.value)
    tar.write_bytes(b"no tar at all" * 1000)
    with pytest.raises(DataError, match="not a tar file"):
        open_source(tar)
    make_tar(tar, VALIDATION, "w:gz")
    with pytest.raises(DataError, match="gzip-compressed, which cannot be read in place; unpack it"):
        open_source(tar)
    make_tar(tar, [VALIDATION[0], VALIDATION[0]])
    with pytest.raises(DataError, match="twice"):
        open_source(tar)
    make_tar(tar, ["readme.txt"])
    with pytest.raises(DataError, match="no images in this tar"):
        open_source(tar)


def test_tar_names_and_links_reach_no_file(tmp_path: Path) -> None:
    fill(tmp_path, "secret.jpg")
    tar = tmp_path / "data" / TAR_NAME
    make_tar(tar, ["../secret.jpg"])
    with tarfile.open(tar, "a") as file:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "../secret.jpg"
        file.addfile(link)
    source = open_source(tar, list_file=write(tmp_path / "l.txt", "../secret.jpg 0\n"))
    assert source.read(0) == b"../secret.jpg"  # the tar's own bytes, not the file's
    with pytest.raises(DataError, match=r"link.jpg is not in"):
        open_source(tar, list_file=write(tmp_path / "l.txt", "link.jpg 0\n"))


def _read_all(source: ImageSource, queue: Any) -> None:
    queue.put([source.read(i) for i in range(len(source))])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_tar_in_other_processes(start: str, tmp_path: Path) -> None:
    make_tar(tmp_path / TAR_NAME, VALIDATION)
    ground_truth(tmp_path)
    source = open_source(tmp_path)
    source.read(0)  # the parent's handle is open when the child starts
    context = multiprocessing.get_context(start)
    queue = context.Queue()
    process = context.Process(target=_read_all, args=(source, queue))
    process.start()
    assert queue.get(timeout=60) == [name.encode() for name in VALIDATION]
    process.join(60)
    assert process.exitcode == 0
    assert [source.read(i) for i in range(5)] == [name.encode() for name in VALIDATION]
