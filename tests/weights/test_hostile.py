"""Every hostile or broken file is refused with one clear line, quickly, in little memory, and runs nothing."""

import pickle
import signal
import sys
import time
from pathlib import Path

import hostile
import hostile_pickles
import make_files as make
import pytest

from paddle_cait.errors import WeightsError
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.tensors import TensorRef

pytestmark = pytest.mark.light

CANARY = "/tmp/paddle_cait_canary"
COLLECTION = hostile.collection(CANARY)
MENTIONED = {"antigravity", "cProfile", "code", "doctest", "pdb", "pip", "runpy", "timeit", "webbrowser", "xmlrpc"}
MAX_SECONDS = 20
MAX_MEMORY = 500 << 20  # bytes above what the process had before; the largest file has 100 MB


def read_everything(path):
    with open_checkpoint(path) as found:
        todo = [found.tree]
        while todo:
            value = todo.pop()
            if isinstance(value, TensorRef):
                value.read()
            elif isinstance(value, dict):
                todo.extend(value.values())
            elif isinstance(value, (list, tuple)):
                todo.extend(value)


def memory(field):
    """A field of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) << 10


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


@pytest.fixture(autouse=True)
def nothing_runs(request):
    """Nothing is executed or imported, and a file that hangs the reader fails its test instead of the run."""
    assert not Path(CANARY).exists()
    before = MENTIONED & set(sys.modules)
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the reader hangs"))
    signal.alarm(3 * MAX_SECONDS)
    yield
    signal.alarm(0)
    assert not Path(CANARY).exists(), "something in the file was executed"
    assert MENTIONED & set(sys.modules) == before, "a file made the reader import something"


@pytest.mark.parametrize("name", COLLECTION)
def test_refused(tmp_path, name):
    path = tmp_path / "hostile"
    path.write_bytes(COLLECTION[name]())
    on_linux = sys.platform == "linux"
    if on_linux:
        forget_peak()
        before = memory("VmRSS")
    start = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        read_everything(path)
    seconds = time.perf_counter() - start
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and len(message) < 1000
    assert seconds < MAX_SECONDS
    if on_linux:
        assert memory("VmHWM") - before < MAX_MEMORY
    path.unlink()  # pytest keeps temporary folders; the collection has gigabytes


def test_the_canary_would_sing(tmp_path):
    """The same pickles do run under pickle.loads: the collection is no sham."""
    alive = tmp_path / "canary"
    for name in ("call os.system", "stack global", "inst", "obj"):
        pickle.loads(hostile_pickles.executing(str(alive))[name])
        assert alive.exists(), name
        alive.unlink()


def test_a_good_file_is_not_refused(tmp_path):
    path = tmp_path / "good"
    for data in (make.pth_zip(make.training_tree()), make.pth_legacy(make.training_tree())):
        path.write_bytes(data)
        read_everything(path)


def test_a_global_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(make.pth_zip({"a": make.Call("os", "system", "true")}))
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(path)
    assert "'os.system'" in str(caught.value)
    assert "nothing was executed" in str(caught.value) and "save the state dict" in str(caught.value)


def test_an_opcode_is_named(tmp_path):
    path = tmp_path / "a.pdparams"
    path.write_bytes(hostile_pickles.entry(b"(ios\nsystem\n"))
    with pytest.raises(WeightsError, match="pickle opcode INST"):
        open_checkpoint(path)


def test_a_tensor_is_named(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(make.pth_zip({"model": {"blocks.0.weight": make.Tensor(make.arrays()["weight"], (99,))}}))
    with pytest.raises(WeightsError, match=r"'model\.blocks\.0\.weight': shape \[99\].*storage of 24"):
        open_checkpoint(path)
