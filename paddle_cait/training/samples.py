"""The training images of one epoch, as :func:`paddle_cait.data.loader.load_batches` takes them."""

from __future__ import annotations

import numpy as np

from paddle_cait.data.sources import ImageSource
from paddle_cait.data.train_transform import TrainTransform
from paddle_cait.data.transforms import decode
from paddle_cait.errors import DataError
from paddle_cait.training.sampling import generator


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
