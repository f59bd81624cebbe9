"""Batches: complete, in order, equal whoever makes them; and what happens when images, workers or memory fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from golden.make_pixels import MEAN, STD, picture

from paddle_cait.data import loader
from paddle_cait.data.loader import Batch, ImageDataset, load_batches
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import EvalTransform
from paddle_cait.errors import DataError
from paddle_cait.presets import Preprocess

SIZE = 16


@pytest.fixture
def photos(tmp_path: Path) -> ImageDataset:
    """Eleven different pictures of three classes."""
    rows = []
    for i in range(11):
        picture(20 + 3 * i, 45 - 2 * i).save(tmp_path / f"{i:02d}.png")
        rows.append(f"{i:02d}.png {i % 3}\n")
    (tmp_path / "val_list.txt").write_text("".join(rows))
    return ImageDataset(open_source(tmp_path), EvalTransform(Preprocess(SIZE, 0.875, "center", "bicubic", MEAN, STD)))


def damage(dataset: ImageDataset, i: int) -> str:
    path = Path(dataset.source.path(i))
    path.write_bytes(path.read_bytes()[:100])
    return str(path)


BATCHES = [[0, 1, 2, 3], [7, 5], [10], [4, 6, 8, 9]]


class Numbers:
    """A dataset of arrays; ``trouble`` maps an index to what goes wrong there."""

    def __init__(self, **trouble: int) -> None:
        self.trouble = {i: what for what, i in trouble.items()}

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        what = self.trouble.get(i)
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "bug":
            raise KeyError("colour")
        if what == "unreadable":
            raise DataError(f"/photos/{i}.jpg: broken")
        return np.full((3, 4, 5 if what == "shape" else 4), i, np.float32), i * 10


def no_children() -> bool:
    """True once all worker processes have ended and were waited for."""
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not multiprocessing.active_children()


def test_an_item(photos: ImageDataset) -> None:
    image, label, index = photos[7]
    assert (image.shape, image.dtype) == ((3, SIZE, SIZE), np.float32)
    assert (label, index) == (1, 7)
    assert (label.dtype, index.dtype) == (np.int64, np.int64)
    assert len(photos) == 11
    assert np.array_equal(image, photos.transform(picture(41, 31)))


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
def test_batches_come_complete_and_in_order(workers: int, photos: ImageDataset) -> None:
    batches = list(load_batches(photos, BATCHES, workers=workers))
    assert [batch.indices.tolist() for batch in batches] == BATCHES
    for batch in batches:
        assert batch.labels.tolist() == [i % 3 for i in batch.indices]
        assert batch.labels.dtype == batch.indices.dtype == np.int64
        assert batch.failed == []
        assert batch.images.place.is_cpu_place()
        images = batch.images.numpy()
        assert images.dtype == np.float32
        for image, i in zip(images, batch.indices):
            assert np.array_equal(image, photos[i][0])
    assert no_children()


def test_pipes_carry_the_same(photos: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [batch.images.numpy() for batch in load_batches(photos, BATCHES, workers=2)]
    little = SimpleNamespace(f_bavail=1, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: little)
    notes: list[str] = []
    through_pipes = list(load_batches(photos, BATCHES, workers=2, notes=notes))
    assert all(np.array_equal(a, b.images.numpy()) for a, b in zip(expected, through_pipes))
    assert len(notes) == 1
    assert "/dev/shm has 0 MiB free and 2 workers need 0 MiB: batches travel through pipes" in notes[0]


def test_shared_memory_is_weighed_by_the_largest_batch(photos: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []
    monkeypatch.setattr(loader, "_in_processes", lambda reader, plan: plans.append(plan) or iter(()))
    # 2 workers x 2 batches + 3, each of at most 4 images
    need = 7 * 4 * 3 * SIZE * SIZE * 4
    for free in (need - 1, need):
        monkeypatch.setattr(os, "statvfs", lambda path, free=free: SimpleNamespace(f_bavail=free, f_frsize=1))
        load_batches(photos, BATCHES, workers=2)

    def no_shared_memory(path: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "statvfs", no_shared_memory)
    notes: list[str] = []
    load_batches(photos, BATCHES, workers=2, notes=notes)
    assert [plan.shared_memory for plan in plans] == [False, True, False]
    assert notes == ["no /dev/shm on this machine: batches travel through pipes"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_stops_with_its_path(workers: int, photos: ImageDataset) -> None:
    path = damage(photos, 5)
    batches = load_batches(photos, BATCHES, workers=workers)
    assert next(batches).indices.tolist() == BATCHES[0]
    with pytest.raises(DataError, match=f"^{path}: the image cannot be decoded") as caught:
        next(batches)
    assert "\n" not in str(caught.value)
    assert no_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_skipped_and_listed(workers: int, photos: ImageDataset) -> None:
    paths = {i: damage(photos, i) for i in (0, 3, 10)}
    batches = list(load_batches(photos, BATCHES, workers=workers, on_error="skip"))
    assert [batch.indices.tolist() for batch in batches] == [[1, 2], [7, 5], [], [4, 6, 8, 9]]
    assert [[i for i, _ in batch.failed] for batch in batches] == [[0, 3], [], [10], []]
    for batch in batches:
        assert all(paths[i] in message for i, message in batch.failed)
        assert len(batch.images) == len(batch.labels) == len(batch.indices)
        for image, i in zip(batch.images.numpy(), batch.indices):
            assert np.array_equal(image, photos[i][0])
    assert batches[2].images.numpy().shape == (0, 3, 1, 1)
    assert no_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_any_dataset_will_do(workers: int) -> None:
    batch = next(iter(load_batches(Numbers(), [[3, 1]], workers=workers)))
    assert isinstance(batch, Batch)
    assert batch.images.numpy()[:, 0, 0, 0].tolist() == [3, 1]
    assert (batch.labels.tolist(), batch.indices.tolist()) == ([30, 10], [3, 1])


@pytest.mark.parametrize("workers", [0, 2])
def test_shapes_must_agree(workers: int) -> None:
    with pytest.raises(DataError, match=r"image 2 has shape \(3, 4, 5\), others of its batch \(3, 4, 4\)"):
        list(load_batches(Numbers(shape=2), [[0, 1, 2]], workers=workers))


def test_an_error_in_the_datasets_code_is_no_skipped_image() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)failed in a worker process.*KeyError: 'colour'"):
        list(load_batches(Numbers(bug=1), [[0], [1]], workers=2, on_error="skip"))
    with pytest.raises(KeyError):
        list(load_batches(Numbers(bug=1), [[0], [1]], workers=0, on_error="skip"))
    assert no_children()


def test_a_killed_worker_is_one_clear_line() -> None:
    with pytest.raises(DataError, match=r"a worker process died \(.+\): memory or /dev/shm may be short") as caught:
        list(load_batches(Numbers(kill=3), [[i] for i in range(8)], workers=2))
    assert "\n" not in str(caught.value)
    assert no_children()


def test_closing_early_ends_the_workers(photos: ImageDataset) -> None:
    batches = load_batches(photos, BATCHES * 5, workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_two_loaders_at_once(photos: ImageDataset) -> None:
    first, second = load_batches(photos, BATCHES, workers=2), load_batches(photos, BATCHES, workers=1)
    for _ in BATCHES:
        assert np.array_equal(next(first).images.numpy(), next(second).images.numpy())
    assert list(first) == list(second) == []
    assert no_children()


def test_another_thread_loads_without_processes(photos: ImageDataset) -> None:
    notes: list[str] = []
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(load_batches(photos, BATCHES, workers=2, notes=notes)))
    thread.start()
    thread.join()
    assert [batch.indices.tolist() for batch in found] == BATCHES
    assert notes == ["loading without worker processes: they can only be started from the main thread"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "on_error is 'ignore', expected 'stop' or 'skip'"),
        ({"workers": -1}, "workers is -1"),
        ({"batches": [[1], []]}, "a batch is empty"),
    ],
)
def test_wrong_arguments_fail_at_the_call(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_batches(Numbers(), **{"batches": [[1]], **options})


def test_no_batches() -> None:
    assert list(load_batches(Numbers(), [], workers=2)) == []


GARBAGE = """
import gc, os, sys
sys.path[:0] = {path!r}
import numpy as np
from paddle_cait.data.loader import load_batches
import paddle

class Plain(paddle.io.Dataset):
    def __len__(self):
        return 9

    def __getitem__(self, i):
        return np.zeros((3, 8, 8), np.float32), i

class Collecting(Plain):
    def __getitem__(self, i):
        if os.getpid() != MAIN:
            gc.collect()
        return super().__getitem__(i)

MAIN = os.getpid()
gc.disable()
for _ in range(3):
    cycle = iter(paddle.io.DataLoader(Plain(), batch_size=1, num_workers=1))
    next(cycle)
    cycle._try_shutdown_all()
    cycle.itself = cycle
    del cycle  # unreachable and not yet collected; the idle threads of its reader are not forked
    print([int(batch.labels[0]) for batch in load_batches(Collecting(), [[7], [8]], workers=2)], flush=True)
"""


def test_workers_leave_the_parents_garbage_alone(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(GARBAGE.format(path=[str(Path(loader.__file__).parents[2])]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[7, 8]\n" * 3


SCRIPT = """
import signal, sys, time
sys.path[:0] = {path!r}
import numpy as np
from paddle_cait.data.loader import load_batches

class Slow:
    def __getitem__(self, i):
        time.sleep(0.02)
        return np.zeros((3, 8, 8), np.float32), 0

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    for batch in load_batches(Slow(), [[i] for i in range(5000)], workers=2):
        if batch.indices[0] == 5:
            print("running", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_everything_without_a_word(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=[str(Path(loader.__file__).parents[2])]))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: all processes of the group get it
    out, errors = process.communicate(timeout=60)
    assert out == "interrupted\n"
    assert errors == ""
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, 0)
