"""A video in, the same video with maps laid over it out. The videos are made here, so that every frame is known.

Frame k is a grey of its own (30 + 16 k) with a bright square that moves right: lossy codecs keep both well enough to
tell which frame it is and where the square was.
"""

import os
import resource
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.video import explain_video
from paddle_cait.explain.video_file import CODECS

cv2 = pytest.importorskip("cv2")
pytestmark = pytest.mark.light

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")
SIDE = 16  # of the square, and of a patch


def level(k):
    return 30 + 16 * k


def film(path, frames=12, size=(96, 64), fps=25, codec="MJPG", colour=True):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size, colour)
    assert writer.isOpened()
    for k in range(frames):
        picture = np.full((size[1], size[0], 3), level(k), np.uint8)
        picture[SIDE : 2 * SIDE, 4 * k : 4 * k + SIDE] = 250
        writer.write(picture if colour else picture[:, :, 0])
    writer.release()
    return path


def write_gif(path, size, milliseconds):
    """One frame for each duration: the container here that has odd sides and uneven frames."""
    pictures = [Image.new("RGB", size, (level(k),) * 3) for k in range(len(milliseconds))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds)
    return path


def read(path):
    """RGB frames and the frame rate."""
    capture, frames = cv2.VideoCapture(str(path)), []
    fps = capture.get(cv2.CAP_PROP_FPS)
    while True:
        done, frame = capture.read()
        if not done:
            return np.array(frames), fps
        frames.append(frame[:, :, ::-1])


def background(frame):
    return float(frame[-8:, :8].mean())


def numbers(frames):
    """Which frames these are."""
    return [round((background(frame) - 30) / 16) for frame in frames]


def bright(frames):
    """A map with a patch of 16 pixels: where the square is."""
    b, h, w, _ = frames.shape
    patches = frames[:, : h // SIDE * SIDE, : w // SIDE * SIDE, 1].reshape(b, h // SIDE, SIDE, w // SIDE, SIDE)
    return patches.mean((2, 4)) / 255


def red(photo, values, limits):
    """Patches above the middle of the limits in red, the rest of the photograph as it is."""
    hot = np.kron(values > sum(limits) / 2, np.ones((SIDE, SIDE), bool))
    picture = photo.copy()
    picture[: hot.shape[0], : hot.shape[1]][hot] = (255, 0, 0)
    return picture


def bare(photo, values, limits):
    return photo


def is_red(frame):
    r, g, b = (frame[..., channel] for channel in range(3))
    return (r > 150) & (g < 100) & (b < 100)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_container(tmp_path, suffix, capfd):
    report = explain_video(film(tmp_path / "in.avi"), tmp_path / f"out{suffix}", bright, draw=red)
    frames, fps = read(tmp_path / f"out{suffix}")
    assert frames.shape == (12, 64, 96, 3) and fps == 25
    assert numbers(frames) == list(range(12))
    assert (report.frames, report.promised, report.fps, report.width, report.height) == (12, 12, 25, 96, 64)
    assert report.notes == ("sound is not copied",)
    assert report.codec in ("mp4v", "XVID", "VP80") and report.frames_per_second == 12 / report.seconds > 0
    assert sorted(os.listdir(tmp_path)) == ["in.avi", f"out{suffix}"]


def test_the_map_lies_where_the_square_is(tmp_path):
    explain_video(film(tmp_path / "in.avi"), tmp_path / "out.avi", bright, draw=red)
    for k, frame in enumerate(read(tmp_path / "out.avi")[0]):
        rows, columns = np.nonzero(is_red(frame))
        left = round(4 * k / SIDE) * SIDE  # of the patch that the square covers most
        expected = (SIDE, 2 * SIDE - 1, left, left + SIDE - 1)
        if 4 * k % SIDE != SIDE / 2:  # else two patches share the square
            assert np.abs(np.subtract((rows.min(), rows.max(), columns.min(), columns.max()), expected)).max() <= 1


def test_explain_is_given_the_frames_in_rgb(tmp_path):
    path = tmp_path / "in.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (32, 32))
    for _ in range(3):
        writer.write(np.full((32, 32, 3), (0, 0, 255), np.uint8))  # OpenCV's order: blue, green, red
    writer.release()
    given = []
    explain_video(path, tmp_path / "out.avi", lambda x: given.append(x) or np.zeros((len(x), 1, 1)), draw=bare)
    (frames,) = given
    assert frames.dtype == np.uint8 and frames.shape == (3, 32, 32, 3)
    assert frames[..., 0].min() > 240 and frames[..., 1:].max() < 15
    assert read(tmp_path / "out.avi")[0][..., 0].min() > 240


def test_smoothing_is_the_stated_formula(tmp_path):
    drawn = []

    def draw(photo, values, limits):
        drawn.append((values.copy(), limits))
        return photo

    given = np.random.default_rng(0).normal(size=(12, 3, 5))
    left = list(given)
    explain_video(
        film(tmp_path / "in.avi"), tmp_path / "out.avi", lambda x: [left.pop(0) for _ in x], draw=draw, smooth=0.7
    )
    values, limits = given[0], np.array([given[0].min(), given[0].max()])
    for k, (seen, seen_limits) in enumerate(drawn):
        if k:
            values = 0.7 * values + 0.3 * given[k]
            limits = 0.7 * limits + 0.3 * np.array([given[k].min(), given[k].max()])
        np.testing.assert_allclose(seen, values, rtol=0, atol=1e-15)
        np.testing.assert_allclose(seen_limits, limits, rtol=0, atol=1e-15)
        assert seen_limits[0] <= seen.min() and seen.max() <= seen_limits[1]
    assert len(drawn) == 12


def test_nothing_to_show(tmp_path):
    drawn = []

    def draw(photo, values, limits):
        drawn.append((values.copy(), limits))
        return photo

    maps = np.array([[[np.nan, np.nan]], [[1.0, np.nan]], [[3.0, 5.0]], [[np.inf, 5.0]]])
    left = list(maps)
    film(tmp_path / "in.avi", frames=4)
    explain_video(tmp_path / "in.avi", tmp_path / "out.avi", lambda x: [left.pop(0) for _ in x], draw=draw, smooth=0.5)
    expected = [[np.nan, np.nan], [1, np.nan], [2, 5], [np.nan, 5]]
    np.testing.assert_array_equal([values[0] for values, _ in drawn], expected)
    assert [limits for _, limits in drawn] == [(0, 1), (1, 1), (2, 3), (3.5, 4)]


def test_the_batch_size_changes_nothing(tmp_path):
    film(tmp_path / "in.avi")
    sizes, written = [], []
    for batch_size in (1, 5, 10**9):
        seen = []
        explain_video(
            tmp_path / "in.avi",
            tmp_path / "out.avi",
            lambda x, seen=seen: seen.append(len(x)) or bright(x),
            draw=red,
            smooth=0.4,
            batch_size=batch_size,
        )
        sizes.append(seen)
        written.append(read(tmp_path / "out.avi")[0])
    assert sizes == [[1] * 12, [5, 5, 2], [12]]
    assert (written[0] == written[1]).all() and (written[0] == written[2]).all()


def test_side_by_side(tmp_path):
    report = explain_video(film(tmp_path / "in.avi"), tmp_path / "out.avi", bright, draw=red, side_by_side=True)
    frames, _ = read(tmp_path / "out.avi")
    assert frames.shape == (12, 64, 192, 3) and (report.width, report.height) == (192, 64)
    assert not is_red(frames[0, :, :90]).any() and is_red(frames[0, 20:28, 100:108]).all()
    assert numbers(frames) == numbers(frames[:, :, 96:]) == list(range(12))


def test_region(tmp_path):
    asked = []

    def region(height, width):
        asked.append((height, width))
        return 0, 32, 64, 64

    film(tmp_path / "in.avi")
    explain_video(
        tmp_path / "in.avi",
        tmp_path / "out.avi",
        lambda x: np.ones((len(x), 1, 1)),
        draw=lambda photo, values, limits: np.full_like(photo, (255, 0, 0)) if photo.shape == (64, 64, 3) else photo,
        region=region,
    )
    before, frames = read(tmp_path / "in.avi")[0], read(tmp_path / "out.avi")[0]
    assert asked == [(64, 96)]
    assert is_red(frames[:, :, 34:]).all() and not is_red(frames[:, :, :30]).any()
    assert max(abs(background(now) - background(then) / 2) for now, then in zip(frames, before)) < 6  # of 15 to 103


@pytest.mark.parametrize("given", [(-1, 0, 8, 8), (0, 0, 65, 8), (0, 90, 8, 8), (0, 0, 0, 8)])
def test_a_region_outside_of_the_frame(tmp_path, given):
    with pytest.raises(PaddleCaitError, match=r"region gave .*, expected a part of the 96x64 frame"):
        explain_video(
            film(tmp_path / "in.avi"), tmp_path / "o.avi", bright, draw=bare, region=lambda height, width: given
        )


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm"])
def test_odd_sides_get_one_more(tmp_path, suffix):
    gif = write_gif(tmp_path / "in.gif", (71, 49), milliseconds=[100] * 5)
    report = explain_video(gif, tmp_path / f"out{suffix}", bright, draw=bare)
    frames, fps = read(tmp_path / f"out{suffix}")
    assert frames.shape == (5, 50, 72, 3) and fps == 10 and (report.width, report.height) == (72, 50)
    assert np.abs(frames[:, :, 71].astype(int) - frames[:, :, 69]).max() < 12  # the last column again, not black


def test_grey(tmp_path):
    explain_video(film(tmp_path / "in.avi", colour=False), tmp_path / "out.avi", bright, draw=red)
    assert numbers(read(tmp_path / "out.avi")[0]) == list(range(12))


def test_one_frame(tmp_path):
    report = explain_video(film(tmp_path / "in.avi", frames=1), tmp_path / "out.mp4", bright, draw=red, smooth=0.9)
    assert len(read(tmp_path / "out.mp4")[0]) == report.frames == 1 and len(report.notes) == 1


@pytest.mark.parametrize(
    ("options", "expected", "fps"),
    [
        ({"start": 0.2}, range(5, 12), 25),
        ({"seconds": 0.12}, range(3), 25),
        ({"start": 0.2, "seconds": 0.12}, range(5, 8), 25),
        ({"start": 0.4, "seconds": 100}, range(10, 12), 25),
        ({"seconds": 1e-6}, range(1), 25),
        ({"every": 5}, range(0, 12, 5), 5),
        ({"every": 5, "start": 0.04, "seconds": 0.24}, range(1, 7, 5), 5),
        ({"every": 100}, range(1), 0.25),
    ],
)
def test_stretches(tmp_path, options, expected, fps):
    report = explain_video(film(tmp_path / "in.avi"), tmp_path / "out.avi", bright, draw=red, batch_size=2, **options)
    frames, out_fps = read(tmp_path / "out.avi")
    assert numbers(frames) == list(expected)
    assert report.frames == report.promised == len(expected)
    assert out_fps == pytest.approx(fps) == report.fps and len(report.notes) == 1


def test_start_behind_the_end(tmp_path):
    with pytest.raises(PaddleCaitError, match=r"in\.avi: start=3 lies behind its end \(12 frames, 0\.48 s\)"):
        explain_video(film(tmp_path / "in.avi"), tmp_path / "out.avi", bright, draw=red, start=3)
    assert os.listdir(tmp_path) == ["in.avi"]


def test_phones_are_turned_upright(tmp_path):
    data = bytearray(film(tmp_path / "in.mp4", codec="mp4v").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # behind the track header's other fields
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    (tmp_path / "in.mp4").write_bytes(data)
    report = explain_video(tmp_path / "in.mp4", tmp_path / "out.mp4", bright, draw=red)
    frames, _ = read(tmp_path / "out.mp4")
    assert frames.shape == (12, 96, 64, 3) and (report.width, report.height) == (64, 96)
    assert is_red(frames[0, 2:14, 34:46]).all()  # a quarter turn clockwise took the square to the right


def test_no_usable_frame_rate(tmp_path):
    report = explain_video(film(tmp_path / "in.mp4", fps=1000, codec="mp4v"), tmp_path / "out.avi", bright, draw=red)
    frames, fps = read(tmp_path / "out.avi")
    assert len(frames) == 12 and fps == report.fps == 25
    assert "the file states no usable frame rate, 25 is taken" in report.notes


def test_uneven_frames(tmp_path):
    gif = write_gif(tmp_path / "in.gif", (32, 32), milliseconds=[100, 100, 100, 100, 1000, 1000])
    report = explain_video(gif, tmp_path / "out.avi", bright, draw=bare)
    frames, fps = read(tmp_path / "out.avi")
    assert len(frames) == 6
    assert f"they last {5 / fps:.1f} s in place of 1.4 s" in report.notes[1]


def test_a_file_that_is_cut_off(tmp_path):
    data = film(tmp_path / "in.avi").read_bytes()
    (tmp_path / "in.avi").write_bytes(data[: data.index(b"movi") + (len(data) - data.index(b"movi")) // 2])
    report = explain_video(tmp_path / "in.avi", tmp_path / "out.avi", bright, draw=red)
    assert 2 <= report.frames < 12 == report.promised
    assert f"{report.frames} of 12 frames could be read: the file is cut off or its header miscounts" in report.notes
    assert numbers(read(tmp_path / "out.avi")[0])[:-1] == list(range(report.frames - 1))  # the last may be half a frame


@pytest.mark.parametrize("data", [b"", b"no video at all " * 40])
def test_a_file_that_is_no_video(tmp_path, data):
    (tmp_path / "in.mp4").write_bytes(data)
    with pytest.raises(PaddleCaitError, match=r"in\.mp4: OpenCV cannot read it as a video") as caught:
        explain_video(tmp_path / "in.mp4", tmp_path / "out.mp4", bright, draw=red)
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("opening", ["#EXTM3U\n#EXTINF:1,\n", "ffconcat version 1.0\nfile "])
def test_a_playlist_opens_no_other_file(tmp_path, opening):
    film(tmp_path / "secret.avi")
    (tmp_path / "in.m3u8").write_text(f"{opening}secret.avi\n")
    with pytest.raises(PaddleCaitError, match=r"in\.m3u8: is a playlist"):
        explain_video(tmp_path / "in.m3u8", tmp_path / "out.mp4", bright, draw=red)


def test_names_that_are_refused(tmp_path):
    source = film(tmp_path / "in.avi")
    (tmp_path / "link.avi").symlink_to(source)
    (tmp_path / "folder.avi").mkdir()
    for target, message in (
        (source, "is the video that is read"),
        (tmp_path / "link.avi", "is the video that is read"),
        (tmp_path / "folder.avi", "is a folder"),
        (tmp_path / "out.xyz", r"unknown suffix '\.xyz', expected \.mp4, .*\.webm"),
        (tmp_path / "out", "unknown suffix ''"),
        (source / "out.avi", "cannot be written"),
    ):
        with pytest.raises(PaddleCaitError, match=message):
            explain_video(source, target, bright, draw=red)
    for name, message in (("none.avi", "no such file"), ("folder.avi", "is a folder"), ("rtsp://a/b", "no such file")):
        with pytest.raises(PaddleCaitError, match=message):
            explain_video(tmp_path / name, tmp_path / "out.avi", bright, draw=red)
    assert len(read(source)[0]) == 12 and sorted(os.listdir(tmp_path)) == ["folder.avi", "in.avi", "link.avi"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("every", 0),
        ("smooth", 1),
        ("smooth", -0.1),
        ("smooth", float("nan")),
        ("start", -1),
        ("start", float("inf")),
        ("seconds", 0),
        ("seconds", float("nan")),
    ],
)
def test_options_that_make_no_sense(tmp_path, name, value):
    with pytest.raises(PaddleCaitError, match=f"{name}=.*, expected"):
        explain_video(tmp_path / "in.avi", tmp_path / "out.avi", bright, draw=red, **{name: value})


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_the_old_file_and_nothing_else(tmp_path, error):
    film(tmp_path / "in.avi")
    (tmp_path / "out.avi").write_bytes(b"old")
    hidden = []

    def explain(frames):
        hidden.append([name for name in os.listdir(tmp_path) if name.startswith(".out.")])
        if len(hidden) == 3:
            raise error
        return bright(frames)

    with pytest.raises(error):
        explain_video(tmp_path / "in.avi", tmp_path / "out.avi", explain, draw=red, batch_size=2)
    assert len(hidden[0]) == 1 and hidden[0][0].endswith(".avi")
    assert sorted(os.listdir(tmp_path)) == ["in.avi", "out.avi"] and (tmp_path / "out.avi").read_bytes() == b"old"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk(tmp_path, suffix, capfd):
    """OpenCV says nothing when its writes fail; a limit on file sizes fails them as a full disk does."""
    film(tmp_path / "in.avi", size=(640, 480))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(PaddleCaitError, match=r"of 12 frames arrived in the file, is the disk full\?"):
            explain_video(tmp_path / "in.avi", tmp_path / f"out{suffix}", bright, draw=lambda *_: noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == ["in.avi"]


def test_maps_and_pictures_of_another_shape(tmp_path):
    source, target = film(tmp_path / "in.avi"), tmp_path / "out.avi"
    sizes = iter(range(1, 99))
    for explain, draw, message in (
        (
            lambda x: np.zeros((2, 3, 3)),
            bare,
            r"explain gave \[2, 3, 3\], expected a map for each frame: \[8, gh, gw\]",
        ),
        (lambda x: np.zeros((8, 6)), bare, "expected a map for each frame"),
        (lambda x: np.zeros((len(x), next(sizes), 2)), bare, "explain gave maps of 2x1 and then of 2x2"),
        (
            bright,
            lambda photo, values, limits: photo[:-1],
            r"draw gave uint8 \[63, 96, 3\], expected uint8 \[64, 96, 3\]",
        ),
        (bright, lambda photo, values, limits: photo / 255, "draw gave float64"),
    ):
        with pytest.raises(PaddleCaitError, match=message):
            explain_video(source, target, explain, draw=draw)
    assert os.listdir(tmp_path) == ["in.avi"]


def test_without_opencv(tmp_path, monkeypatch):
    film(tmp_path / "in.avi")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(PaddleCaitError, match=r"pip install opencv-python-headless.*apt-get install libgl1") as caught:
        explain_video(tmp_path / "in.avi", tmp_path / "out.avi", bright, draw=red)
    assert "\n" not in str(caught.value)


def test_a_codec_that_is_not_there(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(CODECS, ".mp4", ("none",))
    with pytest.raises(
        PaddleCaitError, match=r"out\.mp4: this OpenCV cannot write \.mp4 of 96x64 at 25 fps, it can write \.m4v"
    ) as caught:
        explain_video(film(tmp_path / "in.avi"), tmp_path / "out.mp4", bright, draw=red)
    assert ".mp4," not in str(caught.value).partition("it can")[2] and os.listdir(tmp_path) == ["in.avi"]
