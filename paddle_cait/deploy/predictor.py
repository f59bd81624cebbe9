"""Photographs -> classes and probabilities, by an exported folder in any runtime, or by a checkpoint in Paddle.

The pixels are those that the model is evaluated with (:mod:`paddle_cait.data.transforms`). The EXIF orientation is not
applied unless asked for: evaluation does not apply it either, so that a prediction is what was counted there; a
photograph that its camera marked as turned is listed in ``Predictor.turned``.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from paddle_cait.data.imagenet import NUM_CLASSES, imagenet_class_names
from paddle_cait.data.transforms import EvalTransform, PixelTransform
from paddle_cait.deploy.class_names import find_names
from paddle_cait.deploy.inputs import Item, find_images, is_turned
from paddle_cait.deploy.manifest import MANIFEST, Manifest, read_manifest
from paddle_cait.deploy.sessions import Session, default_threads, open_session
from paddle_cait.errors import ConfigError, DataError, PaddleCaitError
from paddle_cait.files import PathLike

_AHEAD = 2  # batches that are decoded while one is computed


@dataclass(frozen=True)
class Prediction:
    """The best classes of one image, best first.

    ``path``: the file, or ``image in memory``. ``labels``: classes from 0; ``names``: what they are called, the labels
    themselves where no names are known; ``probabilities``: 0 to 1, they sum to 1 over all classes of the model.
    ``error``: why the image could not be read; the three are empty then.
    """

    path: str
    labels: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


class Predictor:
    """``predictor("cat.jpg", topk=5)`` -> :class:`Prediction`; a list, folder, pattern or array of images -> a list.

    See :func:`paddle_cait.deploy.inputs.find_images` for what is taken.

    Args:
        session: what computes.
        transform: a decoded image -> what the session takes.
        names: of the classes, in the order of the labels.
        batch_size: images a step, 1 or more (:class:`ConfigError`). Speed depends on it, results do not.
        exif: turn photographs as their EXIF orientation says. Where it does not, ``turned`` lists their names.
    """

    def __init__(
        self,
        session: Session,
        transform: EvalTransform,
        names: Sequence[str] | None = None,
        batch_size: int = 8,
        exif: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}, expected 1 or more")
        self.session, self.transform, self.names = session, transform, names
        self.batch_size, self.exif = batch_size, exif
        self.turned: list[str] = []

    @property
    def num_classes(self) -> int:
        """0 for a model that gives features."""
        return self.session.manifest.num_classes

    def __call__(self, images: Any, topk: int = 5, on_error: str = "stop") -> Prediction | list[Prediction]:
        """The ``topk`` best classes of each image, or all where there are fewer.

        ``on_error``: ``stop`` raises :class:`DataError` at an image that cannot be read, ``skip`` says it in place of
        its classes. Raises :class:`ConfigError` for other words and a ``topk`` below 1, :class:`PaddleCaitError` for a
        model without classes.
        """
        items, single = find_images(images)
        found = list(self.stream(items, topk, on_error))
        return found[0] if single else found

    def features(self, images: Any) -> np.ndarray:
        """float32 [n, C] of n images, by a model without classes, or one exported with ``features``.

        Raises :class:`DataError` for an image that cannot be read or no image, :class:`PaddleCaitError` for a model
        that gives no features.
        """
        items, _ = find_images(images)
        if not items:
            raise DataError("no images were given")
        return np.stack([self.feature(found) for _, found in self.compute(items)])

    def stream(self, items: Sequence[Item], topk: int = 5, on_error: str = "stop") -> Iterator[Prediction]:
        """One prediction after the other, in order; arguments and errors as of a call."""
        if topk < 1:
            raise ConfigError(f"topk is {topk}, expected 1 or more")
        if not self.session.manifest.classifies:
            raise PaddleCaitError(f"{self.session.manifest.model}: has no classes, ask for its features instead")
        for item, found in self.compute(items, on_error):
            if isinstance(found, DataError):
                yield Prediction(item.name, error=str(found))
                continue
            probabilities = _softmax(self.session.manifest.logits(found), item.name)
            best = np.argsort(-probabilities, kind="stable")[:topk].tolist()
            names = tuple(self.names[k] if self.names else str(k) for k in best)
            yield Prediction(item.name, tuple(best), names, tuple(float(probabilities[k]) for k in best))

    def compute(self, items: Sequence[Item], on_error: str = "stop") -> Iterator[tuple[Item, Any]]:
        """(item, the model's outputs for it, or the `DataError` if it was skipped), in order."""
        if on_error not in ("stop", "skip"):
            raise ConfigError(f"on_error is {on_error!r}, expected 'stop' or 'skip'")
        prepared = self._prepared(items)
        while batch := list(islice(prepared, self.batch_size)):
            read = [pixels for _, pixels in batch if not isinstance(pixels, DataError)]
            failed = next((pixels for _, pixels in batch if isinstance(pixels, DataError)), None)
            if failed and on_error == "stop":
                prepared.close()
                raise failed
            rows = iter(zip(*self.session(np.stack(read)))) if read else iter(())
            for item, pixels in batch:
                yield item, pixels if isinstance(pixels, DataError) else next(rows)

    def describe(self) -> str:
        """One line: the model, the runtime, how images are prepared."""
        return f"{self.session.manifest.model}: {self.session.describe()}; {self.transform.describe()}"

    def _prepared(self, items: Sequence[Item]) -> Generator[tuple[Item, np.ndarray | DataError], None, None]:
        """In order; a few threads decode ahead of the runtime."""
        waiting: deque[tuple[Item, Future[np.ndarray | DataError]]] = deque()
        with ThreadPoolExecutor(min(4, default_threads())) as pool:
            try:
                for item in items:
                    waiting.append((item, pool.submit(self._prepare, item)))
                    if len(waiting) > _AHEAD * self.batch_size:
                        first, future = waiting.popleft()
                        yield first, future.result()
                while waiting:
                    first, future = waiting.popleft()
                    yield first, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _prepare(self, item: Item) -> np.ndarray | DataError:
        try:
            image = item.read(self.exif)
            if not self.exif and is_turned(image):
                self.turned.append(item.name)
            return self.transform(image)
        except DataError as error:
            return error if item.name in str(error) else DataError(f"{item.name}: {error}")

    def feature(self, found: Sequence[np.ndarray]) -> np.ndarray:
        """The features [C] among the outputs of one image."""
        outputs = self.session.manifest.outputs
        if "features" in outputs:
            return found[outputs.index("features")]
        if self.num_classes:
            raise PaddleCaitError(
                f"{self.session.manifest.model}: gives {', '.join(outputs)}, no features; export it with features, or "
                "load the checkpoint with num_classes=0"
            )
        return found[0]


def load_predictor(
    source: PathLike,
    *,
    model: str | None = None,
    engine: str | None = None,
    artifact: str | None = None,
    precision: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = 8,
    class_names: PathLike | Sequence[str] | None = None,
    exif: bool = False,
    preset_file: PathLike | None = None,
    num_classes: int | None = None,
    img_size: int | tuple[int, int] | None = None,
) -> Predictor:
    """A predictor of a folder that ``paddle-cait export`` wrote, or of a checkpoint file.

    Args:
        source: the folder; or any supported checkpoint, which needs Paddle and, unless it is of ``paddle-cait
            finetune`` and says so itself, ``model``, a preset's name.
        engine, artifact, precision, device, threads: see :func:`paddle_cait.deploy.sessions.open_session`; a checkpoint
            is run by the engine ``dygraph`` in fp32.
        batch_size: images a step. Speed depends on it, results do not.
        class_names: the names in the order of the labels, or a file with one a line; None: the source's own.
        exif: turn photographs as their EXIF orientation says. Evaluation does not.
        preset_file, num_classes, img_size: of a checkpoint: where ``model`` is defined; classes of a fine-tuned one, 0
            for features; its size, if not the preset's.

    Raises :class:`ConfigError` for settings that do not go together, :class:`PaddleCaitError` for a folder or file that
    cannot be opened, :class:`DataError` for class names that do not fit.
    """
    path = Path(source)
    if path.is_dir():
        session = _open_folder(path, model, engine, artifact, device, threads, precision)
    else:
        from paddle_cait.deploy.dygraph import open_checkpoint
        from paddle_cait.weights.trained import read_trained

        given = {"model": model, "num_classes": num_classes, "img_size": img_size, "class_names": class_names}
        trained = read_trained(path)
        own = trained.complete({**given, "preset_file": preset_file}) if trained else {}
        model, num_classes, img_size, class_names = {**given, **own}.values()
        _check_checkpoint(path, model, engine, artifact, precision)
        session = open_checkpoint(path, str(model), device, threads, preset_file, num_classes, img_size)
        packaged = preset_file is None and num_classes is None
        if class_names is None and packaged and session.manifest.num_classes == NUM_CLASSES:
            class_names = imagenet_class_names()  # every packaged preset of 1,000 classes has these
    names = find_names(path, session.manifest, class_names)
    return Predictor(session, _transform(path, session.manifest), names, batch_size, exif)


def _open_folder(path: Path, model: str | None, engine: str | None, *settings: Any) -> Session:
    manifest = read_manifest(path)
    if model and model not in (manifest.model, manifest.model.partition(".")[0]):
        raise ConfigError(f"{path}: holds {manifest.model}, not {model}; an exported folder needs no model name")
    if engine == "dygraph":
        raise ConfigError(f"{path}: dygraph runs the checkpoint, not an export: give {manifest.weights.get('file')}")
    artifact, device, threads, precision = settings
    return open_session(path, manifest, engine, artifact, device, threads, precision)


def _check_checkpoint(
    path: Path, model: str | None, engine: str | None, artifact: str | None, precision: str | None
) -> None:
    if not path.exists():
        raise PaddleCaitError(
            f"{path}: no such folder or file, expected what `paddle-cait export` wrote or a checkpoint"
        )
    if (path.parent / MANIFEST).is_file():
        raise PaddleCaitError(f"{path}: is one file of an exported folder: give {path.parent}")
    if engine not in (None, "dygraph") or artifact or precision not in (None, "fp32"):
        raise ConfigError(
            f"{path}: a checkpoint runs in dygraph and fp32; for {engine or artifact or precision} run `paddle-cait "
            "export` first and give its folder"
        )
    if not model:
        raise ConfigError(f"{path}: a checkpoint needs the model's name too; see `paddle-cait list`")


def _transform(path: Path, manifest: Manifest) -> EvalTransform:
    """As the model is evaluated, at the model's own size."""
    height, width = manifest.img_size
    if manifest.preprocess is None or height != width:
        why = (
            "does not say how images are prepared" if manifest.preprocess is None else f"takes {height}x{width} pixels"
        )
        raise PaddleCaitError(f"{path}: {why}; prepare arrays yourself and call open_session(...) on them")
    preprocess = dataclasses.replace(manifest.preprocess, img_size=height)
    return PixelTransform(preprocess) if manifest.input_dtype == "uint8" else EvalTransform(preprocess)


def _softmax(logits: np.ndarray, where: str) -> np.ndarray:
    """float64 probabilities [classes] of one image."""
    logits = logits.astype(np.float64)
    if not np.isfinite(logits).all():
        raise PaddleCaitError(f"{where}: gives logits that are not finite: the precision is too low for this model")
    powers = np.exp(logits - logits.max())
    found: np.ndarray = powers / powers.sum()
    return found
