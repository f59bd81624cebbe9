"""Batches of labelled images, made by worker processes of ``paddle.io.DataLoader``.

One item of Paddle's loader is one whole batch: the worker that decodes the images also puts them into one array, and
an image that cannot be read comes back as data, with its path, instead of as a traceback from another process.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Protocol

import numpy as np

from paddle_cait.data.sources import ImageSource
from paddle_cait.data.transforms import decode
from paddle_cait.errors import DataError

if TYPE_CHECKING:
    import paddle

_LOG = logging.getLogger("paddle_cait")
_PREFETCH = 2  # batches a worker prepares ahead
_SHARED_MEMORY = "/dev/shm"


class ImageDataset:
    """``dataset[i]``: (float32 [3, H, W], label int64, index int64). Raises `DataError` that names the image's path.

    ``source`` gives encoded images and labels; ``transform`` makes the array of a ``PIL.Image`` in RGB.
    """

    def __init__(self, source: ImageSource, transform: Callable[[Any], np.ndarray]) -> None:
        self.source = source
        self.transform = transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.int64, np.int64]:
        image = decode(self.source.read(i), self.source.path(i))
        try:
            pixels = self.transform(image)
        except DataError as error:
            raise DataError(f"{self.source.path(i)}: {error}") from error
        return pixels, np.int64(self.source.labels[i]), np.int64(i)


class _Samples(Protocol):
    def __getitem__(self, i: int, /) -> tuple[Any, ...]: ...


@dataclass
class Batch:
    """``images``: float32 paddle.Tensor [B, 3, H, W] in CPU memory; ``labels``, ``indices``: int64 numpy [B].

    ``failed``: (index, message) of each image that is absent because it could not be read. Where none of a batch could,
    ``images`` is [0, 3, 1, 1].
    """

    images: paddle.Tensor
    labels: np.ndarray
    indices: np.ndarray
    failed: list[tuple[int, str]]


def load_batches(
    dataset: _Samples,
    batches: Sequence[Sequence[int]],
    workers: int = 2,
    on_error: str = "stop",
    notes: list[str] | None = None,
) -> Iterator[Batch]:
    """Load ``dataset[i]`` for every index of every batch; the batches come in order.

    ``dataset[i]`` is (image, label, index) or (image, label), the images of a batch are of one shape. ``workers``:
    number of processes, 0 loads in this one. ``on_error``: ``"stop"`` raises the first `DataError`, ``"skip"`` leaves
    the image out and lists it in `Batch.failed`. Remarks on workers and shared memory go to the log and to ``notes``.

    Close the iterator (or exhaust it) to end the workers. Raises `DataError` also when a worker process dies.
    """
    if on_error not in ("stop", "skip"):
        raise DataError(f"on_error is {on_error!r}, expected 'stop' or 'skip'")
    if workers < 0:
        raise DataError(f"workers is {workers}, expected 0 or more")
    indices = [[int(i) for i in batch] for batch in batches]
    if not all(indices):
        raise DataError("a batch is empty, expected at least one index in each")
    reader = _BatchReader(dataset, indices, stop=on_error == "stop")
    plan = _plan(reader, min(workers, len(indices)))
    if plan.note:
        _LOG.info(plan.note)
        if notes is not None:
            notes.append(plan.note)
    return _in_processes(reader, plan) if plan.workers else _in_this_process(reader)


@dataclass
class _RawBatch:
    """What a worker sends: the images that could be read (None if there are none), and what happened to the others."""

    images: np.ndarray | None
    labels: list[int]
    indices: list[int]
    failed: list[tuple[int, str]]
    crash: str = ""  # a traceback: an error in the dataset's code, not in the data


class _BatchReader:
    """``reader[k]``: batch k. The dataset that Paddle's workers see; picklable if the user's is."""

    def __init__(self, dataset: _Samples, batches: list[list[int]], stop: bool) -> None:
        self.dataset = dataset
        self.batches = batches
        self.stop = stop

    def __len__(self) -> int:
        return len(self.batches)

    def read(self, k: int) -> _RawBatch:
        wanted = self.batches[k]
        raw = _RawBatch(None, [], [], [])
        for i in wanted:
            try:
                sample = self.dataset[i]
                image = np.asarray(sample[0])
                if raw.images is None:
                    raw.images = np.empty((len(wanted), *image.shape), image.dtype)
                if image.shape != raw.images.shape[1:]:
                    raise DataError(f"image {i} has shape {image.shape}, others of its batch {raw.images.shape[1:]}")
            except DataError as error:
                raw.failed.append((i, str(error)))
                if self.stop:
                    break
                continue
            raw.images[len(raw.labels)] = image
            raw.labels.append(int(sample[1]))
            raw.indices.append(int(sample[2]) if len(sample) > 2 else i)
        if raw.images is not None:
            raw.images = raw.images[: len(raw.labels)]
        return raw

    def __getitem__(self, k: int) -> tuple[np.ndarray, list[Any]]:
        """As Paddle's queue wants it: at least one array, and no objects of our own."""
        try:
            raw = self.read(k)
        except Exception:
            raw = _RawBatch(None, [], [], [], traceback.format_exc())
        images = np.zeros(1, np.float32) if raw.images is None else raw.images
        return images, [raw.labels, raw.indices, raw.failed, raw.crash]

    def finish(self, raw: _RawBatch, images: Any) -> Batch:
        """In the main process: raise what is to be raised, build what is to be returned."""
        import paddle

        if raw.crash:
            raise RuntimeError(f"the dataset failed in a worker process:\n{raw.crash}")
        if raw.failed and self.stop:
            raise DataError(f"{raw.failed[0][1]}; --on-error skip leaves such images out")
        if not raw.labels:
            images = np.zeros((0, 3, 1, 1), np.float32)
        if isinstance(images, np.ndarray):
            images = paddle.to_tensor(images, place=paddle.CPUPlace())
        return Batch(images, np.array(raw.labels, np.int64), np.array(raw.indices, np.int64), raw.failed)


def _in_this_process(reader: _BatchReader) -> Iterator[Batch]:
    for k in range(len(reader)):
        raw = reader.read(k)
        yield reader.finish(raw, raw.images)


@dataclass(frozen=True)
class _Plan:
    workers: int
    shared_memory: bool
    note: str = ""


def _plan(reader: _BatchReader, workers: int) -> _Plan:
    """How many processes, and whether their batches travel through shared memory (faster) or pipes (always works)."""
    if workers and threading.current_thread() is not threading.main_thread():
        return _Plan(0, False, "loading without worker processes: they can only be started from the main thread")
    if not workers:
        return _Plan(0, False)
    try:
        status = os.statvfs(_SHARED_MEMORY)
        free = status.f_bavail * status.f_frsize
    except OSError:
        return _Plan(workers, False, f"no {_SHARED_MEMORY} on this machine: batches travel through pipes")
    # what the workers prepare, what Paddle's reader holds, and what the caller looks at
    need = (_PREFETCH * workers + 3) * _batch_bytes(reader)
    if need <= free:
        return _Plan(workers, True)
    return _Plan(
        workers,
        False,
        f"{_SHARED_MEMORY} has {free >> 20} MiB free and {workers} workers need {need >> 20} MiB: batches travel "
        "through pipes (a little slower; a smaller batch or fewer workers would avoid it)",
    )


def _batch_bytes(reader: _BatchReader) -> int:
    """Size of the largest batch, judged by the first image that can be read."""
    largest = max(map(len, reader.batches))
    for i in reader.batches[0]:
        with contextlib.suppress(DataError):
            return largest * int(np.asarray(reader.dataset[i][0]).nbytes)
    return 0


def _in_processes(reader: _BatchReader, plan: _Plan) -> Iterator[Batch]:
    import paddle

    loader = paddle.io.DataLoader(
        reader,
        places=paddle.CPUPlace(),
        batch_size=None,
        num_workers=plan.workers,
        use_shared_memory=plan.shared_memory,
        prefetch_factor=_PREFETCH,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
    )
    iterator = None
    try:
        with _ready_to_fork():
            iterator = iter(loader)
        for images, (labels, indices, failed, crash) in iterator:
            raw = _RawBatch(None, labels, indices, [(i, message) for i, message in failed], crash)
            yield reader.finish(raw, images)
    except (SystemError, OSError, EOFError) as error:
        raise DataError(
            f"a worker process died ({_cause(iterator, error)}): memory or {_SHARED_MEMORY} may be short, "
            "use smaller batches or fewer workers"
        ) from error
    finally:
        if iterator is not None:
            _end_workers(iterator)


@contextlib.contextmanager
def _ready_to_fork() -> Iterator[None]:
    """Children made here start without garbage collection; `_start_worker` switches it on for what is theirs.

    A worker that collected its parent's garbage would destroy the queue of another (or a former) loader, and wait for
    ever for the threads of its reader, which were not forked (seen on 2.6.2 and 3.3.1).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later warn of fork in a process with threads; the workers never touch paddle's
            warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
            yield
    finally:
        if enabled:
            gc.enable()


def _cause(iterator: Any, error: Exception) -> str:
    """Paddle's own text is long and names no cause; the exit code of the process does."""
    codes = [process.exitcode for process in getattr(iterator, "_workers", ()) if process.exitcode]
    if not codes:
        return " ".join(str(error).split())[:120]
    return signal.Signals(-codes[0]).name if codes[0] < 0 else f"exit code {codes[0]}"


def _end_workers(iterator: Any) -> None:
    """End Paddle's worker processes now, not when the garbage collector comes by."""
    processes = list(getattr(iterator, "_workers", ()))
    iterator._try_shutdown_all(5)
    for process in processes:
        if process.is_alive():
            process.terminate()
        process.join()


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """First thing in a worker process: Ctrl-C is the main process's business, and nothing is printed from here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    gc.freeze()  # see _ready_to_fork
    gc.enable()
