"""``explain_video``: a video in, the same video with an explanation laid over every frame out.

Frames are read, explained, drawn and written one batch after the other, and nothing else is kept: memory does not grow
with the length of the video. OpenCV reads and writes. It carries no sound, and it writes frames evenly spaced.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
from tqdm import tqdm

from paddle_cait.errors import ConfigError, PaddleCaitError
from paddle_cait.explain.video_file import Reader, check_files, opencv, size_of, video_file
from paddle_cait.files import PathLike

Explain = Callable[[np.ndarray], Any]
Draw = Callable[[np.ndarray, np.ndarray, tuple[float, float]], np.ndarray]
Box = tuple[int, int, int, int]  # top, left, height, width
Region = Callable[[int, int], Box]


@dataclass(frozen=True)
class VideoReport:
    """What was written: ``frames`` of ``width`` x ``height`` at ``fps`` with ``codec`` (a FourCC).

    ``seconds``: that the work took.
    ``promised``: frames that the source's header leads to expect in the chosen stretch; None if it does not say.
    ``notes``: what a viewer should know.
    """

    source: str
    target: str
    frames: int
    promised: int | None
    fps: float
    width: int
    height: int
    codec: str
    seconds: float
    notes: tuple[str, ...]

    @property
    def frames_per_second(self) -> float:
        """Of work, not of playing."""
        return self.frames / self.seconds


def explain_video(
    source: PathLike,
    target: PathLike,
    explain: Explain,
    *,
    batch_size: int = 8,
    smooth: float = 0.0,
    side_by_side: bool = False,
    start: float | None = None,
    seconds: float | None = None,
    every: int = 1,
    region: Region | None = None,
    draw: Draw | None = None,
) -> VideoReport:
    """Lay one map a frame over a video.

    Args:
        source: a video that OpenCV reads; turned upright as its header says (phones).
        target: appears when it is complete; :data:`paddle_cait.explain.video_file.CODECS` lists the suffixes.
        explain: frames, uint8 RGB [B, H, W, 3], to their maps [B, gh, gw]; NaN: nothing to show there. The frames are
            whole, what of them the model sees is up to this function.
        batch_size: frames per call of ``explain``; the last call may get fewer.
        smooth: s in [0, 1). Shown is m_t = s * m_(t-1) + (1 - s) * x_t, m_0 = x_0, where x_t is frame t's map. The
            limits of the colours, x_t's least and greatest value, are smoothed in the same way: no value of m_t lies
            outside of them, and colours do not flicker.
        side_by_side: the bare frame to the left of the drawn one.
        start, seconds: the stretch to explain. What lies before it is decoded and thrown away: exact in every
            container, and slow far into a long video.
        every: take each N-th frame only; the frame rate is divided by N, so that the video lasts as long as before.
        region: frame height and width to the rectangle (top, left, height, width) that the map covers, for models that
            see a crop; around it the frame is dimmed. Without it the map covers the frame.
        draw: (that part of the frame uint8 [h, w, 3], map [gh, gw], limits) to a picture of the same size; by default
            :func:`paddle_cait.explain.overlay.overlay`.

    A picture with an odd side gets one row or column more, a copy of its last: codecs want even sides.
    Raises :class:`PaddleCaitError` for a source that is no video, a target that cannot be written, options that make
    no sense, and maps or pictures of another shape.
    """
    source, target = Path(source), Path(target)
    _check_options(batch_size=batch_size, smooth=smooth, start=start, seconds=seconds, every=every)
    check_files(source, target)
    cv2 = opencv()
    draw = draw or _overlay()
    began = time.perf_counter()
    running = _Running(smooth)
    with contextlib.closing(Reader(cv2, source, start or 0.0, seconds, every)) as reader:
        box = _box(region, reader.height, reader.width)
        height, width = _even(reader.height), _even(reader.width * (1 + side_by_side))
        bar = tqdm(total=reader.promised, unit="frame", desc="explain", disable=None)
        with bar, video_file(cv2, target, reader.fps, width, height) as (write, codec):
            for frames in reader.batches(batch_size):
                for frame, values in zip(frames, _maps(explain, frames)):
                    picture = _picture(frame, *running(values), box, draw)
                    write(np.concatenate([frame, picture], axis=1) if side_by_side else picture)
                bar.update(len(frames))
        return VideoReport(
            source=str(source),
            target=str(target),
            frames=reader.frames,
            promised=reader.promised,
            fps=reader.fps,
            width=width,
            height=height,
            codec=codec,
            seconds=time.perf_counter() - began,
            notes=tuple(reader.notes()),
        )


class _Running:
    """The smoothed map and limits, frame after frame (the formula: see :func:`explain_video`)."""

    def __init__(self, smooth: float) -> None:
        self.smooth = smooth
        self.values: np.ndarray | None = None
        self.limits: np.ndarray | None = None

    def __call__(self, values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
        if self.values is not None and self.values.shape != values.shape:
            raise PaddleCaitError(f"explain gave maps of {size_of(self.values)} and then of {size_of(values)}")
        finite = np.isfinite(values)
        self.values = self._mix(self.values, np.where(finite, values, np.nan))
        if finite.any():
            self.limits = self._mix(self.limits, np.array([values[finite].min(), values[finite].max()]))
        low, high = (0.0, 1.0) if self.limits is None else self.limits
        return self.values, (float(low), float(high))

    def _mix(self, old: np.ndarray | None, new: np.ndarray) -> np.ndarray:
        if old is None:
            return new
        mixed = self.smooth * old + (1 - self.smooth) * new
        return np.where(np.isnan(mixed), new, mixed)  # what was not there before begins with its own value


def _maps(explain: Explain, frames: np.ndarray) -> np.ndarray:
    maps = np.asarray(explain(frames), dtype=np.float64)
    if maps.ndim != 3 or len(maps) != len(frames) or not maps.size:
        raise PaddleCaitError(
            f"explain gave {list(maps.shape)}, expected a map for each frame: [{len(frames)}, gh, gw]"
        )
    return maps


def _picture(frame: np.ndarray, values: np.ndarray, limits: tuple[float, float], box: Box, draw: Draw) -> np.ndarray:
    top, left, height, width = box
    inside = (slice(top, top + height), slice(left, left + width))
    drawn = draw(np.ascontiguousarray(frame[inside]), values, limits)
    if drawn.shape != (height, width, 3) or drawn.dtype != np.uint8:
        raise PaddleCaitError(f"draw gave {drawn.dtype} {list(drawn.shape)}, expected uint8 [{height}, {width}, 3]")
    if drawn.shape == frame.shape:
        return drawn
    picture = frame // 2
    picture[inside] = drawn
    return picture


def _box(region: Region | None, height: int, width: int) -> Box:
    if region is None:
        return 0, 0, height, width
    top, left, tall, wide = (int(side) for side in region(height, width))
    if min(top, left) < 0 or min(tall, wide) < 1 or top + tall > height or left + wide > width:
        raise PaddleCaitError(f"region gave {(top, left, tall, wide)}, expected a part of the {width}x{height} frame")
    return top, left, tall, wide


def _check_options(*, batch_size: int, smooth: float, start: float | None, seconds: float | None, every: int) -> None:
    for name, value, good, expected in (
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("smooth", smooth, 0 <= smooth < 1, "0 (none) or more, and less than 1"),
        ("start", start, start is None or 0 <= start < 1e9, "seconds, 0 or more"),
        ("seconds", seconds, seconds is None or 0 < seconds < 1e9, "seconds, more than 0"),
        ("every", every, every >= 1, "1 or more"),
    ):
        if not good:
            raise ConfigError(f"{name}={value}, expected {expected}")


def _overlay() -> Draw:
    from paddle_cait.explain.overlay import overlay

    return lambda photo, values, limits: overlay(photo, values, limits=limits)


def _even(side: int) -> int:
    return side + side % 2
