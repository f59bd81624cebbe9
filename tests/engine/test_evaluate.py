"""Counts to the image: batches, workers, limits, unreadable files, kills and several processes."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
from helpers import ROOT, draw_state, npz, official_shapes, photographs, preset

import paddle_cait as pc
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import eval_transform
from paddle_cait.engine.metrics import Rows, score
from paddle_cait.engine.progress import Progress

N = 37


@pytest.fixture
def bench(tmp_path):
    """A shrunk model with drawn weights and 37 small photographs with a list."""
    tiny = preset(tmp_path)
    weights = npz(tmp_path / "drawn.npz", draw_state(official_shapes(tiny)))
    folder = photographs(tmp_path / "images", N)
    (folder / "val_list.txt").write_text("".join(f"{i:02d}.png {i % 7}\n" for i in range(N)))
    dataset = ImageDataset(open_source(folder, num_classes=7), eval_transform(tiny))
    return tiny, weights, dataset


@pytest.fixture
def expected(bench):
    """Every image on its own, scored by the formula."""
    tiny, weights, dataset = bench
    model = pc.create_model(tiny, weights)
    model.eval()
    with paddle.no_grad():
        logits = np.concatenate([model(paddle.to_tensor(dataset[i][0][None])).numpy() for i in range(N)])
    return score(logits, np.arange(N) % 7, np.arange(N))


def assert_same(result, expected):
    assert result.n == len(expected)
    np.testing.assert_array_equal(result.rows.index, expected.index)
    np.testing.assert_array_equal(result.rows.top, expected.top)
    assert (result.top1_correct, result.top5_correct) == (expected.top1_correct, expected.top5_correct)
    assert result.loss == pytest.approx(expected.loss.mean(), abs=1e-5)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (8, 0), (8, 2), (37, 1), (64, 0)])
def test_counts_do_not_depend_on_batches_and_workers(bench, expected, batch_size, workers):
    tiny, weights, dataset = bench
    result = pc.evaluate(pc.create_model(tiny, weights), dataset, batch_size=batch_size, workers=workers)
    assert_same(result, expected)
    assert 0 < result.top1_correct < N, "the drawn labels must make some predictions right and some wrong"
    assert result.dataset["fingerprint"] == dataset.source.fingerprint and result.device == "cpu"


def test_a_folder_will_do(bench, expected, tmp_path):
    result = pc.evaluate(pc.create_model(*bench[:2]), tmp_path / "images", workers=0)
    assert_same(result, expected)
    assert result.preprocess == bench[0].preprocess


def test_a_model_of_another_size_gets_images_of_its_size(bench, tmp_path):
    model = pc.create_model(*bench[:2], img_size=64)
    result = pc.evaluate(model, tmp_path / "images", workers=0, limit=3)
    assert result.preprocess.img_size == 64
    assert "img_size is 64, the published number used 48" in result.verdict(bench[0].published).reason
    with pytest.raises(pc.DataError, match="48x64: prepare its images yourself"):
        pc.evaluate(pc.create_model(*bench[:2], img_size=(48, 64)), tmp_path / "images")


def test_a_limit_takes_images_evenly(bench, expected):
    tiny, weights, dataset = bench
    result = pc.evaluate(pc.create_model(tiny, weights), dataset, limit=10, workers=0)
    assert result.rows.index.tolist() == [i * N // 10 for i in range(10)]
    np.testing.assert_array_equal(result.rows.top, expected.top[result.rows.index])
    assert result.verdict(tiny.published).status == "NOT COMPARABLE"


def test_the_model_comes_back_in_its_own_mode(bench):
    model = pc.create_model(*bench[:2])
    model.train()
    pc.evaluate(model, bench[2], limit=2, workers=0)
    assert model.training


def test_any_dataset_of_pairs_will_do(bench, expected):
    class Pairs:
        def __len__(self):
            return N

        def __getitem__(self, i):
            return bench[2][i][0], i % 7

    result = pc.evaluate(pc.create_model(*bench[:2]), Pairs(), workers=0)
    assert_same(result, expected)
    assert "does not say how" in result.verdict(bench[0].published).reason


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_stops_or_is_counted(bench, workers):
    tiny, weights, dataset = bench
    path = dataset.source.path(5)
    with open(path, "wb") as file:
        file.write(b"not a picture")
    model = pc.create_model(tiny, weights)
    with pytest.raises(pc.DataError, match=r"05\.png"):
        pc.evaluate(model, dataset, workers=workers, batch_size=4)
    result = pc.evaluate(model, dataset, workers=workers, batch_size=4, on_error="skip")
    assert result.n == N - 1 and [index for index, _ in result.skipped] == [5] and "05.png" in result.skipped[0][1]
    assert 5 not in result.rows.index
    assert "1 unreadable images were skipped" in result.verdict(tiny.published).reason


def test_damaged_weights_are_told_from_wrong_ones(bench):
    model = pc.create_model(*bench[:2])
    model.head.bias.set_value(np.full(7, np.nan, np.float32))
    with pytest.raises(pc.PaddleCaitError, match="not finite"):
        pc.evaluate(model, bench[2], workers=0)


def test_near_chance_is_said_early(bench, caplog):
    class Shifted:
        def __len__(self):
            return 400

        def __getitem__(self, i):
            image = bench[2][i % N][0]
            return image, (predicted[i % N] + 1) % 7

    model = pc.create_model(*bench[:2])
    predicted = pc.evaluate(model, bench[2], workers=0).rows.top[:, 0].tolist()
    result = pc.evaluate(model, Shifted(), workers=0, batch_size=100)
    assert len(result.notes) == 1 and "near chance" in result.notes[0]
    assert result.notes[0] in caplog.text


def test_resuming_counts_each_image_once(bench, expected, tmp_path):
    tiny, weights, dataset = bench
    model = pc.create_model(tiny, weights)
    seen = []

    class StopError(Exception):
        pass

    class Interrupted:
        source, transform = dataset.source, dataset.transform

        def __len__(self):
            return N

        def __getitem__(self, i):
            seen.append(i)
            if len(seen) == 20:
                raise StopError
            return dataset[i]

    with pytest.raises(StopError):
        pc.evaluate(model, Interrupted(), workers=0, batch_size=4, progress_dir=tmp_path / "out")
    first = set(seen[:16])
    seen.clear()
    seen.extend([None] * 100)
    result = pc.evaluate(model, Interrupted(), workers=0, batch_size=4, progress_dir=tmp_path / "out", resume=True)
    assert first.isdisjoint(i for i in seen if i is not None) and len(first) == 16
    assert_same(result, expected)
    assert os.listdir(tmp_path / "out") == []


def test_progress_of_another_evaluation_does_not_count(bench, expected, tmp_path):
    tiny, weights, dataset = bench
    model = pc.create_model(tiny, weights)
    other = Progress(tmp_path, {"model": "other"})
    other.begin(resume=False)
    other.open_log(0)
    other.append(score(np.zeros((N, 7)), np.zeros(N, int), np.arange(N)), [])
    other.close()
    assert_same(pc.evaluate(model, dataset, workers=0, progress_dir=tmp_path, resume=True), expected)


def test_a_torn_last_line_is_dropped(tmp_path):
    progress = Progress(tmp_path, {"x": 1})
    progress.begin(resume=False)
    progress.open_log(0)
    rows = score(np.eye(3), np.arange(3), np.arange(3))
    progress.append(rows, [(9, "bad.png")])
    progress.append(score(np.eye(3), np.arange(3), np.arange(3, 6)), [])
    progress.close()
    log = progress.folder / "rank0.jsonl"
    log.write_bytes(log.read_bytes()[:-7])
    done, failed = progress.read()
    assert done.index.tolist() == [0, 1, 2] and failed == [(9, "bad.png")]
    np.testing.assert_array_equal(done.loss, rows.loss)
    progress.open_log(0)
    progress.append(Rows.empty(), [(10, "worse.png")])
    progress.close()
    done, failed = progress.read()
    assert done.index.tolist() == [0, 1, 2] and failed == [(9, "bad.png"), (10, "worse.png")]


def command(bench, tmp_path, *more):
    return [
        *(str(ROOT / "tools" / "eval.py"), "--model", "tiny", "--preset-file", str(tmp_path / "presets.yaml")),
        *("--weights", str(bench[1]), "--data", str(tmp_path / "images"), "--device", "cpu", "--batch-size", "2"),
        *("--output-dir", str(tmp_path / "out"), "--json", str(tmp_path / "result.json"), *more),
    ]


def assert_json(path, expected):
    found = json.loads(path.read_text())
    counts = (len(expected), expected.top1_correct, expected.top5_correct)
    assert (found["n"], found["top1_correct"], found["top5_correct"]) == counts
    assert found["loss"] == pytest.approx(expected.loss.mean(), abs=1e-5)
    return found


def test_two_processes_count_exactly(bench, expected, tmp_path):
    launch = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    words = [*launch, "--log_dir", str(tmp_path / "log"), *command(bench, tmp_path, "-j", "0")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert assert_json(tmp_path / "result.json", expected)["processes"] == 2  # 37 images do not divide by two


def kill_and_resume(bench, expected, tmp_path, rounds, seed):
    """kill -9 at random moments; no partial result; what is resumed ends with the same counts."""
    rng = np.random.RandomState(seed)
    slow = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for _ in range(rounds):
        words = [sys.executable, *command(bench, tmp_path, "-j", "0", "--resume")]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=slow)
        time.sleep(rng.uniform(0.5, 3.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        result = tmp_path / "result.json"
        if result.exists():  # it was done before the kill
            assert_json(result, expected)
            result.unlink()
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=slow)
    assert done.returncode == 0, done.stderr
    assert_json(tmp_path / "result.json", expected)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == []


def test_kill_and_resume(bench, expected, tmp_path):
    kill_and_resume(bench, expected, tmp_path, rounds=3, seed=0)


@pytest.mark.slow
def test_kill_and_resume_twenty_times(bench, expected, tmp_path):
    kill_and_resume(bench, expected, tmp_path, rounds=20, seed=1)
