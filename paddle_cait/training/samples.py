"""The training images of one epoch, as :func:`paddle_cait.data.loader.load_batches` takes them, and which of all images
could not be read."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from paddle_cait.data.sources import ImageSource
from paddle_cait.data.train_transform import TrainTransform
from paddle_cait.data.transforms import decode
from paddle_cait.engine.processes import gather
from paddle_cait.errors import DataError
from paddle_cait.training.sampling import generator

log = logging.getLogger("paddle_cait")


class EpochImages:
    """``epoch_images[place]``: (float32 [3, H, W], label int64, place int64), the same whoever asks and whenever.

    Raises `DataError` that names the image's path.
    """

    def __init__(
        self, source: ImageSource, transform: TrainTransform, order: np.ndarray, seed: int, epoch: int
    ) -> None:
        self.source, self.transform, self.order, self.seed, self.epoch = source, transform, order, seed, epoch

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.int64, np.int64]:
        image = int(self.order[place])
        pixels = decode(self.source.read(image), self.path(place))
        try:
            prepared = self.transform(pixels, generator(self.seed, self.epoch, place))
        except DataError as error:
            raise DataError(f"{self.path(place)}: {error}") from error
        return prepared, np.int64(self.source.labels[image]), np.int64(place)

    def path(self, place: int) -> str:
        """Of the image at a place, for messages."""
        return self.source.path(int(self.order[place]))


class Unreadable:
    """``messages``: path -> what is wrong with the image, of each that a run left out."""

    def __init__(self, world: int, messages: dict[str, str] | None = None) -> None:
        self.world, self.messages = world, dict(messages or {})

    def add(self, failed: Iterable[tuple[str, str]]) -> None:
        """(path, message) of images; the log names each once."""
        for path, message in failed:
            if path not in self.messages:
                self.messages[path] = message
                log.warning("%s; the run goes on without it", message)

    def share(self) -> None:
        """What one process found, all know. To be called by all of them."""
        for messages in gather(self.messages, self.world):
            self.messages.update(messages)
