"""Features on disk: every row once, whatever is killed, and never those of other weights or images."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import paddle
import pytest
from helpers import ROOT, draw_state, npz, official_shapes, photographs, preset

import paddle_cait as pc
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import eval_transform
from paddle_cait.engine.features import extract_features

N = 37

SCRIPT = """
import sys, time
from paddle_cait import runtime
runtime.prepare("cpu")
import paddle_cait as pc
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import eval_transform
from paddle_cait.engine.features import extract_features

class Slow(ImageDataset):
    def __getitem__(self, i):
        time.sleep(float(sys.argv[2]))
        return super().__getitem__(i)

here = sys.argv[1]
model = pc.create_model("tiny", here + "/drawn.npz", num_classes=0, preset_file=here + "/presets.yaml")
dataset = Slow(open_source(here + "/images", num_classes=7), eval_transform(model))
extract_features(model, dataset, here + "/out", batch_size=4, workers=0, resume=True)
"""


Bench = namedtuple("Bench", "preset weights dataset model out")


@pytest.fixture
def bench(tmp_path):
    """A shrunk backbone with drawn weights and 37 small photographs with a list."""
    tiny = preset(tmp_path)
    weights = npz(tmp_path / "drawn.npz", draw_state(official_shapes(tiny)))
    folder = photographs(tmp_path / "images", N)
    (folder / "val_list.txt").write_text("".join(f"{i:02d}.png {i % 7}\n" for i in range(N)))
    dataset = ImageDataset(open_source(folder, num_classes=7), eval_transform(tiny))
    return Bench(tiny, weights, dataset, pc.create_model(tiny, weights, num_classes=0), tmp_path / "out")


@pytest.fixture
def expected(bench):
    """Every image on its own."""
    bench.model.eval()
    with paddle.no_grad():
        return np.concatenate([bench.model(paddle.to_tensor(bench.dataset[i][0][None])).numpy() for i in range(N)])


def extract(bench, dataset=None, **options):
    return extract_features(
        options.pop("model", bench.model), dataset or bench.dataset, bench.out, **{"workers": 0, **options}
    )


def assert_same(found, expected, indices=range(N)):
    indices = list(indices)
    assert found.indices.tolist() == indices and found.labels.tolist() == [i % 7 for i in indices]
    np.testing.assert_allclose(found[0 : len(found)], expected[indices], atol=1e-5)


class StopError(Exception):
    pass


class Watched(ImageDataset):
    """Lists what is read, and stops before image number ``most``."""

    def __init__(self, dataset, most=1000):
        super().__init__(dataset.source, dataset.transform)
        self.most, self.seen = most, []

    def __getitem__(self, i):
        if len(self.seen) == self.most:
            raise StopError
        self.seen.append(i)
        return super().__getitem__(i)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (8, 2), (64, 0)])
def test_rows_do_not_depend_on_batches_and_workers(bench, expected, batch_size, workers):
    found = extract(bench, batch_size=batch_size, workers=workers)
    assert_same(found, expected)
    assert found.computed == len(found) == N and found.width == expected.shape[1] and not found.skipped
    np.testing.assert_array_equal(found[5:9], found[0:N][5:9])
    np.testing.assert_array_equal(found.part(5, 20)[2:4], found[7:9])
    assert found[N:99].shape == (0, found.width)


def test_the_model_comes_back_in_its_own_mode(bench):
    bench.model.train()
    extract(bench, limit=2)
    assert bench.model.training


def test_a_limit_takes_images_evenly(bench, expected):
    assert_same(extract(bench, limit=10), expected, [i * N // 10 for i in range(10)])


def test_finished_features_are_read_not_computed(bench, expected):
    first = extract(bench)
    again = Watched(bench.dataset)
    assert_same(extract(bench, again), expected)
    assert again.seen == [] and extract(bench, again).computed == 0
    assert first.folder == extract(bench, again).folder


def test_an_interrupted_run_is_resumed_when_asked(bench, expected):
    with pytest.raises(StopError):
        extract(bench, Watched(bench.dataset, most=22), batch_size=4)
    rest = Watched(bench.dataset)
    assert_same(extract(bench, rest, batch_size=4, resume=True), expected)
    assert rest.seen == list(range(20, N))

    shutil.rmtree(bench.out)
    with pytest.raises(StopError):
        extract(bench, Watched(bench.dataset, most=22), batch_size=4)
    everything = Watched(bench.dataset)
    assert_same(extract(bench, everything), expected)
    assert everything.seen == list(range(N))


def other_weights(bench, tmp_path):
    weights = npz(tmp_path / "other.npz", draw_state(official_shapes(bench.preset), seed=5))
    return {"model": pc.create_model(bench.preset, weights, num_classes=0)}


def other_entry(bench, tmp_path):
    """The same file's other set of weights, such as a training checkpoint's average."""
    model = pc.create_model(bench.preset, tmp_path / bench.model.load_report.path, num_classes=0)
    model.load_report = dataclasses.replace(bench.model.load_report, entry="model_ema")
    return {"model": model}


def other_labels(bench, tmp_path):
    (tmp_path / "images" / "val_list.txt").write_text("".join(f"{i:02d}.png {(i + 1) % 7}\n" for i in range(N)))
    return {"dataset": ImageDataset(open_source(tmp_path / "images", num_classes=7), bench.dataset.transform)}


def other_folder(bench, tmp_path):
    """Names and labels may be the same and the pictures others, as in ImageNet's variants."""
    shutil.copytree(tmp_path / "images", tmp_path / "blurred")
    return {"dataset": ImageDataset(open_source(tmp_path / "blurred", num_classes=7), bench.dataset.transform)}


def other_preprocessing(bench, tmp_path):
    return {"dataset": ImageDataset(bench.dataset.source, eval_transform(bench.preset, crop_pct=0.9))}


def other_number(bench, tmp_path):
    return {"limit": 36}


@pytest.mark.parametrize(
    "other", [other_weights, other_entry, other_labels, other_folder, other_preprocessing, other_number]
)
def test_other_features_are_not_taken_for_these(bench, tmp_path, other):
    first = extract(bench)
    found = extract(bench, resume=True, **other(bench, tmp_path))
    assert found.computed == len(found) and found.folder != first.folder


def test_without_weights_or_names_nothing_is_taken(bench):
    class Pairs:
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return bench.dataset[i][0], i % 7

    for options in ({"dataset": Pairs()}, {"model": pc.create_model(bench.preset, num_classes=0)}):
        assert extract(bench, **options).computed == extract(bench, resume=True, **options).computed > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_stops_or_is_left_out(bench, expected, workers):
    path = bench.dataset.source.path(5)
    with open(path, "rb") as file:
        picture = file.read()
    with open(path, "wb") as file:
        file.write(b"not a picture")
    with pytest.raises(pc.DataError, match=r"05\.png"):
        extract(bench, batch_size=4, workers=workers)
    found = extract(bench, batch_size=4, workers=workers, on_error="skip")
    rest = [i for i in range(N) if i != 5]
    assert_same(found, expected, rest)
    np.testing.assert_allclose(found[3:8], expected[rest[3:8]], atol=1e-5)
    assert [index for index, _ in found.skipped] == [5] and "05.png" in found.skipped[0][1]
    assert extract(bench, on_error="skip").computed == 0
    with pytest.raises(pc.DataError, match=r"05\.png"):  # it was asked not to skip
        extract(bench)
    with open(path, "wb") as file:
        file.write(picture)
    mended = extract(bench)
    assert mended.computed == 1 and not mended.skipped
    assert_same(mended, expected)


def test_bad_input(bench, tmp_path, monkeypatch):
    with pytest.raises(pc.PaddleCaitError, match="num_classes=0"):
        extract(bench, model=pc.create_model(bench.preset, bench.weights))
    broken = pc.create_model(bench.preset, bench.weights, num_classes=0)
    broken.norm.bias.set_value(np.full(broken.num_features, np.nan, np.float32))
    with pytest.raises(pc.PaddleCaitError, match="image 0 of the list gives features that are not finite"):
        extract(bench, model=broken)
    usage = namedtuple("Usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
        with pytest.raises(pc.PaddleCaitError, match=r"37 x 40 features take 0.00 GB, .* choose a folder on a larger"):
            extract(bench)
    (tmp_path / "file").write_text("")
    with pytest.raises(pc.PaddleCaitError, match="cannot be written"):
        extract_features(bench.model, bench.dataset, tmp_path / "file", workers=0)


def test_a_damaged_folder_is_said(bench):
    folder = extract(bench).folder
    (folder / "identity.json").write_text("{}")
    with pytest.raises(pc.PaddleCaitError, match="other weights or images than its folder"):
        extract(bench)
    shutil.rmtree(folder)
    extract(bench)
    os.truncate(folder / "features.f32", 100)
    with pytest.raises(pc.PaddleCaitError, match="is damaged .* delete it"):
        extract(bench)


def start(tmp_path, pause=0.0):
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, "-W", "ignore", str(tmp_path / "script.py"), str(tmp_path), str(pause)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, cwd=tmp_path)


def run_to_the_end(tmp_path):
    with start(tmp_path) as process:
        said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said[-3000:]


def files(bench):
    (folder,) = bench.out.iterdir()
    return {name: (folder / name).read_bytes() for name in ("features.f32", "labels.i64")}


def written(bench):
    found = list(bench.out.glob("*/labels.i64"))
    return int((np.fromfile(found[0], np.int64) >= 0).sum()) if found else 0


def test_kill_and_resume_gives_the_same_bytes(bench, expected, tmp_path):
    run_to_the_end(tmp_path)
    whole = files(bench)
    shutil.rmtree(bench.out)
    deadline = time.monotonic() + 60
    with start(tmp_path, pause=0.05) as process:
        while written(bench) < 9 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert 9 <= written(bench) < N
    run_to_the_end(tmp_path)
    assert files(bench) == whole
    assert_same(extract(bench), expected)
