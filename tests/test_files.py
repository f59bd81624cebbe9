"""Outputs appear whole or not at all."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from paddle_cait.errors import PaddleCaitError
from paddle_cait.files import atomic_writers, sha256_file, write_atomic


def test_names_appear_together_after_the_block(tmp_path):
    with atomic_writers(tmp_path / "a", tmp_path / "sub" / "b") as (first, second):
        first.write(b"1")
        second.write(b"2")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"1" and (tmp_path / "sub" / "b").read_bytes() == b"2"
    assert sorted(os.listdir(tmp_path)) == ["a", "sub"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    write_atomic(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), atomic_writers(tmp_path / "a", tmp_path / "b") as (first, _):
        first.write(b"new")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


def test_without_unnamed_files(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE")
    write_atomic(tmp_path / "a", b"1")
    with pytest.raises(RuntimeError), atomic_writers(tmp_path / "a"):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"1"


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PaddleCaitError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "x", b"")
    with pytest.raises(PaddleCaitError, match="is a folder"):
        write_atomic(tmp_path, b"")


def test_kill_leaves_nothing(tmp_path):
    code = (
        "import sys, time; from paddle_cait.files import atomic_writers\n"
        "with atomic_writers(sys.argv[1]) as (f,):\n"
        "    f.write(b'x' * (1 << 20)); f.flush(); print('written', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.1)
    assert os.listdir(tmp_path) == []


def test_sha256(tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()
