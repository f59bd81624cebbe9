"""Videos through OpenCV: chosen frames of one, and one that appears when it is complete. For :mod:`.video`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np

from paddle_cait.errors import DataError, PaddleCaitError

FALLBACK_FPS = 25.0
"""For files that state no frame rate, or one above ``MAX_FPS``: that is the unit of their clock."""

MAX_FPS = 500.0

MAX_PIXELS = 1 << 26
"""Of one frame. 8K video has half of it."""

# What each container is written with: the first that this OpenCV has. Browsers play .webm; mp4v they do not.
CODECS = {
    ".mp4": ("mp4v", "avc1"),
    ".m4v": ("mp4v", "avc1"),
    ".mov": ("mp4v", "avc1"),
    ".mkv": ("mp4v", "MJPG"),
    ".avi": ("XVID", "MJPG"),
    ".webm": ("VP80", "VP90"),
}


class Reader:
    """The chosen frames of a video, RGB, in order. The first is read at once: it tells the true size."""

    def __init__(self, cv2: Any, path: Path, start: float, seconds: float | None, every: int) -> None:
        self.cv2, self.path = cv2, path
        # The absolute path of a file that is there: OpenCV takes other names for addresses, devices and pipelines.
        self.capture = cv2.VideoCapture(str(path.absolute()))
        if not self.capture.isOpened():
            raise DataError(f"{path}: OpenCV cannot read it as a video: no video, an unknown codec, or cut off")
        self.capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        pixels = self.capture.get(cv2.CAP_PROP_FRAME_WIDTH) * self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if pixels > MAX_PIXELS:
            raise DataError(f"{path}: frames of {pixels:.0f} pixels, expected at most {MAX_PIXELS}")
        stated, count = self.capture.get(cv2.CAP_PROP_FPS), self.capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.has_rate = 0 < stated <= MAX_FPS
        rate = stated if self.has_rate else FALLBACK_FPS
        first = round(start * rate)
        stop = 1 << 62 if seconds is None else first + max(1, round(seconds * rate))
        self.fps = rate / every
        # Live recordings state a count of 0 or less.
        self.promised = len(range(first, min(stop, int(count)), every)) if 0 < count < 1 << 31 else None
        self.places, self.at = iter(range(first, stop, every)), 0
        self.frames, self.times = 0, [0.0, 0.0]  # milliseconds, of the first frame and of the latest
        frame = self._next()
        if frame is None:
            late = f"start={start:g} lies behind its end ({self.at} frames, {self.at / rate:g} s)"
            raise DataError(f"{path}: {late if self.at else 'not one frame can be read'}")
        self.first: np.ndarray = frame
        self.height, self.width = frame.shape[:2]

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """uint8 [up to ``size``, H, W, 3]."""
        frame: np.ndarray | None = self.first
        batch: list[np.ndarray] = []
        while frame is not None:
            if frame.shape != self.first.shape:
                raise DataError(
                    f"{self.path}: frame {self.at - 1} is {size_of(frame)}, the first {size_of(self.first)}"
                )
            batch.append(frame)
            self.frames += 1
            frame = self._next()
            if len(batch) == size or frame is None:
                yield np.stack(batch)
                batch.clear()

    def _next(self) -> np.ndarray | None:
        place = next(self.places, None)
        while place is not None and self.at < place and self.capture.grab():
            self.at += 1
        if self.at != place:
            return None
        done, frame = self.capture.read()
        if not done:
            return None
        self.at += 1
        now = self.capture.get(self.cv2.CAP_PROP_POS_MSEC)
        self.times = [self.times[0] if self.frames else now, now]
        code = self.cv2.COLOR_GRAY2RGB if frame.ndim == 2 else self.cv2.COLOR_BGR2RGB
        return self.cv2.cvtColor(frame, code)

    def notes(self) -> Iterator[str]:
        yield "sound is not copied"
        if self.promised is not None and self.frames < self.promised:
            yield f"{self.frames} of {self.promised} frames could be read: the file is cut off or its header miscounts"
        if not self.has_rate:
            yield f"the file states no usable frame rate, {FALLBACK_FPS:g} is taken"
        lasted, lasts = (self.times[1] - self.times[0]) / 1000, (self.frames - 1) / self.fps
        if lasted > 0 and abs(lasted - lasts) > max(0.1, 0.02 * lasted):
            yield f"the frames were not evenly spaced and are now: they last {lasts:.1f} s in place of {lasted:.1f} s"

    def close(self) -> None:
        self.capture.release()


@contextlib.contextmanager
def video_file(
    cv2: Any, target: Path, fps: float, width: int, height: int
) -> Iterator[tuple[Callable[[np.ndarray], None], str]]:
    """A function that writes an RGB frame, and the codec. The name ``target`` appears when all is there.

    OpenCV wants a name that ends as the container does: a hidden one, removed on any error (``kill -9`` leaves it).
    """
    hidden = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    written = 0

    def write(picture: np.ndarray) -> None:
        nonlocal written
        below, right = height - picture.shape[0], width - picture.shape[1]
        even = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
        writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        written += 1

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden.touch()
    except OSError as error:
        raise PaddleCaitError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        writer, codec = _writer(cv2, hidden, fps, width, height)
        if writer is None:
            raise PaddleCaitError(
                f"{target}: this OpenCV cannot write {target.suffix} of {width}x{height} at {fps:g} fps, {_able(cv2)}"
            )
        try:
            yield write, codec
        finally:
            writer.release()
        # OpenCV does not tell of a full disk: the file is read again.
        if (there := _count(cv2, hidden)) < written:
            raise PaddleCaitError(f"{target}: only {there} of {written} frames arrived in the file, is the disk full?")
        hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)


def _writer(cv2: Any, path: Path, fps: float, width: int, height: int) -> tuple[Any, str]:
    for codec in CODECS[path.suffix.lower()]:
        writer = cv2.VideoWriter(str(path.absolute()), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
        if writer.isOpened():
            return writer, codec
    return None, ""


def _able(cv2: Any) -> str:
    """What can be written, found out by trying."""
    with tempfile.TemporaryDirectory() as folder:
        tried = {suffix: _writer(cv2, Path(folder, f"a{suffix}"), FALLBACK_FPS, 64, 64)[0] for suffix in CODECS}
        found = ", ".join(suffix for suffix, writer in tried.items() if writer is not None)
        tried.clear()  # closes them, before the folder goes
    return f"it can write {found} (tried at 64x64)" if found else "nor another: `pip install opencv-python-headless`"


def _count(cv2: Any, path: Path) -> int:
    capture, n = cv2.VideoCapture(str(path.absolute())), 0
    while capture.grab():
        n += 1
    capture.release()
    return n


def check_files(source: Path, target: Path) -> None:
    if not source.is_file():
        raise DataError(f"{source}: {'is a folder' if source.is_dir() else 'no such file'}, expected a video")
    try:
        with open(source, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror})") from error
    if head.startswith((b"#EXTM3U", b"ffconcat")):  # they may name any file of this machine
        raise DataError(f"{source}: is a playlist, which names other files, expected a video")
    if target.is_dir():
        raise PaddleCaitError(f"{target}: is a folder, expected the name of a video to write")
    if target.exists() and target.samefile(source):
        raise PaddleCaitError(f"{target}: is the video that is read, expected another name to write to")
    if target.suffix.lower() not in CODECS:
        raise PaddleCaitError(f"{target}: unknown suffix {target.suffix!r}, expected {', '.join(CODECS)}")


def opencv() -> Any:
    try:
        import cv2
    except ImportError as error:  # it is missing, or a library that it needs
        raise PaddleCaitError(
            f"videos need OpenCV ({error}): `pip install opencv-python-headless`; opencv-python would also need "
            "`apt-get install libgl1`"
        ) from error
    return cv2


def size_of(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
