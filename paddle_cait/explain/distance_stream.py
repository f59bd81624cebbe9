"""Mean attention distance over many images: no map is kept, and a run that was stopped continues where it was."""

from __future__ import annotations

import contextlib
import json
import math
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from tqdm import tqdm

from paddle_cait.data.loader import Batch, ImageDataset, load_batches
from paddle_cait.errors import DataError, PaddleCaitError
from paddle_cait.explain.capture import capture_attention, watch_attention
from paddle_cait.explain.distance import DistanceMeter, distance_layers
from paddle_cait.files import PathLike, atomic_writers

SAVED_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class ManyDistances:
    """Of n images: ``values`` float64 [n, layers, heads] in pixels, row by row those of ``names``.

    ``layers``: the layers' names. ``skipped``: (name, why) of each image that could not be read. ``computed`` of the n
    were not in the state.
    """

    values: np.ndarray
    names: list[str]
    layers: list[str]
    skipped: list[tuple[str, str]]
    computed: int

    @property
    def mean(self) -> np.ndarray:
        """Over images, [layers, heads]."""
        found: np.ndarray = self.values.mean(axis=0)
        return found

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation over images, [layers, heads]."""
        found: np.ndarray = self.values.std(axis=0)
        return found


def stream_distance(
    model: nn.Layer,
    dataset: ImageDataset,
    *,
    indices: Sequence[int] | None = None,
    batch_size: int = 8,
    workers: int = 2,
    on_error: str = "stop",
    state: PathLike | None = None,
) -> ManyDistances:
    """:func:`paddle_cait.explain.distance.mean_attention_distance` of each image of ``dataset``, while the model runs.

    Args:
        indices: which images; None is all.
        batch_size: on a CPU small batches cost less: their maps stay in its caches.
        workers: processes that read images ahead.
        on_error: ``stop`` at an image that cannot be read, or ``skip`` it.
        state: a .npz file that keeps what is done, written anew every half minute and at the end, also of a run that
            fails. A later run over the same or more images takes what it holds; skipped images are tried again.

    Raises :class:`PaddleCaitError` for a state of another model, weights or preparation, for GCViT and for folded
    ViTs; :class:`DataError` for images that cannot be read.
    """
    if batch_size < 1:
        raise PaddleCaitError(f"batch_size is {batch_size}, expected 1 or more")
    with capture_attention(model, layers=[]) as known:  # no more than its name and what layers there are
        layers = distance_layers(known, known.layouts)
    wanted = [int(i) for i in (range(len(dataset)) if indices is None else indices)]
    names = dataset.source.names
    done = _Done(state, None if state is None else _identity(model, known.model, dataset, layers))
    to_do = [i for i in wanted if names[i] not in done.values]
    batches = [to_do[start : start + batch_size] for start in range(0, len(to_do), batch_size)]
    skipped: list[tuple[str, str]] = []
    meter = DistanceMeter()
    there = len(wanted) - len(to_do)
    bar = tqdm(total=len(wanted), initial=there, unit="img", desc="attention distance", disable=None)
    with bar, done.kept(), _evaluating(model):
        for batch in load_batches(dataset, batches, workers, on_error):
            skipped += [(names[i], why) for i, why in batch.failed]
            if len(batch.indices):
                done.add([names[i] for i in batch.indices], _measure(model, meter, batch, layers, names))
            bar.update(len(batch.indices) + len(batch.failed))
    rows = [names[i] for i in wanted if names[i] in done.values]
    if not rows:
        raise DataError(f"none of the {len(wanted)} images could be read: {skipped[0][1] if skipped else 'no images'}")
    values = np.stack([done.values[name] for name in rows])
    return ManyDistances(values, rows, layers, skipped, computed=len(to_do) - len(skipped))


def _measure(
    model: nn.Layer, meter: DistanceMeter, batch: Batch, layers: list[str], names: Sequence[str]
) -> np.ndarray:
    """[B, layers, heads] of one batch."""
    with watch_attention(model, meter.see, layers):
        model(batch.images)
    found = meter.take(layers)
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=(1, 2)))
    if len(wrong):
        raise PaddleCaitError(
            f"{names[batch.indices[wrong[0]]]}: gives numbers that are not finite: the weights are damaged, or the "
            "precision is too low for this model"
        )
    return found


@contextlib.contextmanager
def _evaluating(model: nn.Layer) -> Iterator[None]:
    """The model comes back in its own mode."""
    was_training = model.training
    model.eval()
    try:
        with paddle.no_grad():
            yield
    finally:
        if was_training:
            model.train()


class _Done:
    """``values``: image name -> [layers, heads]; kept in the file ``path`` if there is one."""

    def __init__(self, path: PathLike | None, identity: dict[str, Any] | None) -> None:
        self.path = None if path is None else Path(path)
        self.identity = identity
        self.values: dict[str, np.ndarray] = {}
        self._saved_at, self._saved = time.monotonic(), 0
        if self.path is not None and self.path.exists():
            self.values = self._read(self.path)
            self._saved = len(self.values)

    def add(self, names: Sequence[str], values: np.ndarray) -> None:
        self.values.update(zip(names, values))
        if time.monotonic() - self._saved_at >= SAVED_EVERY:
            self._save()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Saved however the block ends."""
        try:
            yield
        finally:
            self._save()

    def _save(self) -> None:
        if self.path is not None and len(self.values) > self._saved:
            with atomic_writers(self.path) as (file,):
                names, values = np.array(list(self.values)), np.stack(list(self.values.values()))
                np.savez(file, identity=np.array(json.dumps(self.identity)), names=names, values=values)
            self._saved = len(self.values)
        self._saved_at = time.monotonic()

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        try:
            with zipfile.ZipFile(path) as archive:
                identity = json.loads(str(_member(archive, "identity", "U")))
                names, values = _member(archive, "names", "U"), _member(archive, "values", "f")
            if not isinstance(identity, dict) or names.shape != values.shape[:1] or values.ndim != 3:
                raise ValueError("its arrays do not belong together")
        except OSError as error:
            raise PaddleCaitError(f"{path}: cannot be read ({error.strerror})") from error
        except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
            raise PaddleCaitError(
                f"{path}: is no state of mean attention distances ({error}); delete it, or name another file"
            ) from error
        for field, own in json.loads(json.dumps(self.identity)).items():
            if identity.get(field) != own:
                raise PaddleCaitError(
                    f"{path}: is a state of other {field} ({_short(identity.get(field))}, this run has {_short(own)}); "
                    "delete it, or name another file"
                )
        return dict(zip(names.tolist(), values))


def _member(archive: zipfile.ZipFile, name: str, kind: str) -> np.ndarray:
    """One array of a .npz that numpy wrote; its header must fit the size of the data that is there."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        if info.compress_type != zipfile.ZIP_STORED or np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is stored in another way")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        data = file.read()
    if dtype.kind != kind or fortran or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{name} is {dtype} {list(shape)} of {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _identity(model: nn.Layer, name: str, dataset: ImageDataset, layers: list[str]) -> dict[str, Any]:
    """What must be equal for earlier values to be these. The folder too: ImageNet's variants share names."""
    report = getattr(model, "load_report", None)
    if report is None:
        raise PaddleCaitError(f"{name}: no file gave its weights, so that no state could be known as theirs")
    preprocess = getattr(dataset.transform, "preprocess", None)
    return {
        "model": name,
        "weights": report.sha256,
        "entry of the weights": report.entry,
        "image size": list(model.img_size),
        "preparation": asdict(preprocess) if preprocess else None,
        "folder": str(dataset.source.root.resolve()),
        "layers": layers,
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
