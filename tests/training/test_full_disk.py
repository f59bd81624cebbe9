"""A disk that fills while a run writes: one line, the earlier files are whole, and there is room to go on from them."""

import errno
import io
import os
import re

import pytest
from make_run import assert_same_run, one_line, words

from paddle_cait.cli.main import main
from paddle_cait.errors import PaddleCaitError
from paddle_cait.files import _Pending, write_atomic

FLAGS = ("--epochs", "2", "--warmup-epochs", "0", "-b", "5", "--no-check", "--checkpoint-updates", "3", "--model-ema")


class Full(io.FileIO):
    """A file on a disk without room."""

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_the_disk(monkeypatch, name, after):
    """The file ``name`` finds no room when it is written for the time ``after``, counted from 0."""
    original, times = _Pending._open, []

    def _open(self):
        file = original(self)
        if self.target.name == name:
            times.append(name)
            if len(times) == after + 1:
                handle = os.dup(file.fileno())
                file.close()
                return io.BufferedRandom(Full(handle, "r+b"))
        return file

    monkeypatch.setattr(_Pending, "_open", _open)


@pytest.mark.parametrize("unnamed", [True, False])
def test_no_room_for_a_small_file(unnamed, tmp_path, monkeypatch):
    """What fits in the buffer fails when it is flushed; on file systems without unnamed files nothing stays either."""
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE")
    write_atomic(tmp_path / "a", b"old")
    fill_the_disk(monkeypatch, "a", 0)
    with pytest.raises(PaddleCaitError, match=r"a: cannot be written \(No space left on device\)"):
        write_atomic(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


def test_no_room_for_the_names(start, photos, tmp_path, capsys, monkeypatch):
    fill_the_disk(monkeypatch, "labels.txt", 0)
    found = one_line(capsys, words(start, photos, tmp_path / "out", *FLAGS))
    assert "labels.txt: cannot be written (No space left on device)" in found
    assert os.listdir(tmp_path / "out") == []


@pytest.fixture
def whole(start, photos, tmp_path):
    assert main(words(start, photos, tmp_path / "whole", *FLAGS)) == 0
    return tmp_path / "whole"


def test_no_room_in_a_run(whole, start, photos, tmp_path, capsys, monkeypatch):
    """At each file that it writes: in the first epoch, at the end, within an epoch."""
    for name, after in (("best.pdparams", 0), ("last.pdparams", 0), ("log.csv", 1), ("last.state.safetensors", 2)):
        folder = tmp_path / f"without {name}"
        with monkeypatch.context() as patch:
            fill_the_disk(patch, name, after)
            found = one_line(capsys, words(start, photos, folder, *FLAGS))
        assert re.search(
            rf"{name}: cannot be written \(No space left on device\); --resume goes on from .*last.state.safetensors. "
            "Make room first$", found
        ), found  # fmt: skip
        assert not [one for one in os.listdir(folder) if one.startswith(".")]
        assert main(words(start, photos, folder, *FLAGS, "--resume")) == 0
        assert_same_run(whole, folder)


def test_no_room_for_the_first_state(start, photos, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        fill_the_disk(patch, "last.state.safetensors", 0)
        found = one_line(capsys, words(start, photos, tmp_path / "out", *FLAGS))
    assert "(No space left on device); there is no state to resume from yet. Make room first" in found
    assert os.listdir(tmp_path / "out") == ["labels.txt"]
    assert main(words(start, photos, tmp_path / "out", *FLAGS)) == 0
