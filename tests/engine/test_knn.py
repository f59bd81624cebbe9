"""k-NN counts against brute force, ties, blocks, label sets, processes, and the verdict without a known k."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, draw_state, npz, official_shapes, preset
from PIL import Image

import paddle_cait as pc
from paddle_cait.cli import eval_protocols
from paddle_cait.cli.eval_protocols import open_train
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import eval_transform
from paddle_cait.engine import knn_search
from paddle_cait.engine.feature_store import Features
from paddle_cait.engine.features import extract_features
from paddle_cait.engine.knn import KnnResult, evaluate_knn, vote
from paddle_cait.engine.knn_search import nearest
from paddle_cait.engine.metrics import Rows
from paddle_cait.engine.verdict import judge_knn

KS = (1, 3, 10, 20)
TRAIN, VAL, CLASSES = 60, 37, 7


def brute_force(train, labels, val, ks, temperature=0.07):
    """Neighbours and class sums, one image at a time, in float64."""
    train, val = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None] for x in (train, val))
    ranking = {k: [] for k in ks}
    for similarity in val @ train.T:
        order = sorted(range(len(train)), key=lambda j: (-similarity[j], j))
        for k in ks:
            sums = [
                sum(np.exp(similarity[j] / temperature) for j in order[:k] if labels[j] == c) for c in range(CLASSES)
            ]
            ranking[k].append(sorted(range(CLASSES), key=lambda c: (-sums[c], c)))
    return {k: np.array(rows) for k, rows in ranking.items()}


@pytest.fixture
def drawn():
    """Train features around seven centres, so that neighbours mean something but not everything."""
    rng = np.random.RandomState(0)
    centres = rng.randn(CLASSES, 12)
    labels, asked = rng.randint(0, CLASSES, 300), rng.randint(0, CLASSES, 50)
    train = centres[labels] + 1.3 * rng.randn(300, 12)
    val = centres[asked] + 1.3 * rng.randn(50, 12)
    return train.astype(np.float32), labels, val.astype(np.float32), asked


def test_neighbours_and_votes_equal_brute_force(drawn):
    train, labels, val, asked = drawn
    similarity, rows = nearest(train, val, max(KS))
    ranking = brute_force(train, labels, val, KS)
    for k in KS:
        logits = vote(similarity[:, :k], labels[rows[:, :k]], CLASSES, 0.07)
        voted = [len(set(some)) for some in labels[rows[:, :k]]]
        for best, expected, count in zip(np.argsort(-logits, axis=1, kind="stable"), ranking[k], voted):
            assert best[:count].tolist() == expected[:count].tolist()
        np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1)
    assert 0 < (ranking[10][:, 0] == asked).sum() < 50


@pytest.mark.parametrize(("rows", "columns", "first"), [(1, 7, 1), (16, 64, 32), (50, 300, 300)])
def test_blocks_change_nothing(drawn, monkeypatch, rows, columns, first):
    train, _, val, _ = drawn
    train[150:] = train[:150]  # every image twice: the last bit of a product would decide between the two
    expected = nearest(train, val, 20)
    for name, value in (("_ROWS", rows), ("_COLUMNS", columns), ("_FIRST", first)):
        monkeypatch.setattr(knn_search, name, value)
    found = nearest(train, val, 20)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def signs(count, seed):
    """Features of +1 and -1: lengths and products are exact in float32, so equal similarities abound."""
    return np.random.RandomState(seed).choice([-1.0, 1.0], (count, 16)).astype(np.float32)


def test_of_equal_similarities_the_earlier_image_wins(monkeypatch):
    train, val = signs(500, 0), signs(20, 1)
    train[250:] = train[:250]  # every image twice
    monkeypatch.setattr(knn_search, "_COLUMNS", 64)
    similarity, rows = nearest(train, val, 40)
    exact = (val @ train.T) / 16
    np.testing.assert_array_equal(rows, np.argsort(-exact, axis=1, kind="stable")[:, :40])
    np.testing.assert_array_equal(similarity, np.take_along_axis(exact, rows, axis=1))


def test_of_equal_sums_the_lower_class_wins():
    logits = vote(np.array([[0.9, 0.9, 0.5, 0.5]], np.float32), np.array([[4, 2, 2, 4]]), 6, 0.07)
    assert logits[0, 2] == logits[0, 4] == pytest.approx(np.log(0.5)) and (logits[0, [0, 1, 3, 5]] < -600).all()


def test_a_cold_temperature_does_not_overflow(drawn):
    train, labels, val, _ = drawn
    similarity, rows = nearest(train, val, 5)
    best = vote(similarity, labels[rows], CLASSES, 1e-6).argmax(axis=1)
    np.testing.assert_array_equal(best, labels[rows[:, 0]])


def test_bad_features():
    good = np.ones((3, 2), np.float32)
    with pytest.raises(pc.PaddleCaitError, match="k is 4, expected 1 to 3"):
        nearest(good, good, 4)
    with pytest.raises(pc.PaddleCaitError, match="not finite"):
        nearest(good, good * np.nan, 1)
    zero = np.array([[0, 0], [1, 1]], np.float32)  # an image without a feature is like no other
    assert nearest(zero, good, 2)[0].tolist() == [[pytest.approx(1), 0]] * 3


def photographs(folder, count, seed):
    """Pictures of seven colours and noise."""
    rng = np.random.RandomState(seed)
    colours = np.random.RandomState(9).randint(40, 216, (CLASSES, 3))
    folder.mkdir()
    lines = []
    for i in range(count):
        label = int(rng.randint(CLASSES))
        pixels = np.clip(colours[label] + rng.randint(-90, 90, (50, 60, 3)) + rng.randint(-40, 40, 3), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.png")
        lines.append(f"{i:02d}.png {label}\n")
    (folder / "val_list.txt").write_text("".join(lines))
    return open_source(folder, num_classes=CLASSES)


@pytest.fixture
def bench(tmp_path):
    tiny = preset(tmp_path)
    weights = npz(tmp_path / "drawn.npz", draw_state(official_shapes(tiny)))
    model = pc.create_model(tiny, weights, num_classes=0)
    sets = [photographs(tmp_path / name, *size) for name, size in (("train", (TRAIN, 1)), ("val", (VAL, 2)))]
    return model, *(ImageDataset(source, eval_transform(tiny)) for source in sets), tmp_path / "out"


@pytest.fixture
def expected(bench):
    """(rows predicted with each k by brute force, labels) over features computed one image at a time."""
    import paddle

    model, train, val, _ = bench
    model.eval()
    with paddle.no_grad():
        known, asked = (
            np.concatenate([model(paddle.to_tensor(dataset[i][0][None])).numpy() for i in range(len(dataset))])
            for dataset in (train, val)
        )
    return brute_force(known, train.source.labels, asked, KS), np.array(val.source.labels)


def assert_counts(counts, expected):
    ranking, labels = expected
    for k in KS:
        top = ranking[k] == labels[:, None]
        assert counts[k] == (top[:, 0].sum(), top[:, : min(5, k)].any(axis=1).sum())


def measured(result):
    return {k: (rows.top1_correct, rows.top5_correct) for k, rows in result.rows.items()}


def test_counts(bench, expected):
    model, train, val, out = bench
    result = evaluate_knn(model, train, val, out, nb_knn=(*KS, 3), workers=0)
    assert list(result.rows) == list(KS) and result.n == VAL
    assert_counts(measured(result), expected)
    assert 0 < result.rows[3].top1_correct < VAL, "some must be right and some wrong"
    assert result.best_k == max(KS, key=lambda k: (result.rows[k].top1_correct, -k))
    assert result.rows[3].index.tolist() == list(range(VAL)) and result.width == model.num_features
    plain = json.loads(json.dumps(result.as_dict(), default=str))
    assert [entry["k"] for entry in plain["knn"]] == list(KS) and plain["train"]["n"] == TRAIN


def test_another_k_computes_no_features(bench, expected):
    model, train, val, out = bench
    evaluate_knn(model, train, val, out, nb_knn=(1,), workers=0)
    model.norm.weight.set_value(np.zeros(model.num_features, np.float32))  # a forward pass would show
    assert_counts(measured(evaluate_knn(model, train, val, out, nb_knn=KS, workers=0)), expected)


def test_a_limit_concerns_the_validation_images(bench):
    model, train, val, out = bench
    result = evaluate_knn(model, train, val, out, nb_knn=KS, workers=0, limit=10)
    assert result.n == 10 and result.train["n"] == TRAIN
    assert "10 images were evaluated" in judge_knn(result, model.preset.published).reason


def test_unreadable_images_do_not_vote(bench):
    model, train, val, out = bench
    for dataset in (train, val):
        with open(dataset.source.path(5), "wb") as file:
            file.write(b"not a picture")
    result = evaluate_knn(model, train, val, out, nb_knn=(3,), workers=0, on_error="skip")
    assert result.n == VAL - 1 and result.train["n"] == TRAIN - 1
    verdict = judge_knn(result, dataclasses.replace(model.preset.published, n=VAL))
    assert "1 unreadable images were skipped" in verdict.reason and "1 unreadable train images" in verdict.reason


def test_several_right_labels(bench):
    """Any of an image's labels is right, as for ImageNet-ReaL."""
    model, train, val, out = bench
    labels = val.source.labels
    both = val.source.relabelled([(label, (label + 1) % CLASSES) for label in labels], "twice")
    result = evaluate_knn(model, train, ImageDataset(both, val.transform), out, nb_knn=(3,), workers=0)
    best = result.rows[3].top[:, 0]
    assert result.rows[3].top1_correct == sum(b in (label, (label + 1) % CLASSES) for b, label in zip(best, labels))


def test_what_makes_no_sense(bench):
    model, train, val, out = bench
    with pytest.raises(pc.PaddleCaitError, match="k is 200, but there are 60 train images"):
        evaluate_knn(model, train, val, out)
    with pytest.raises(pc.DataError, match="the train images are the validation images"):
        evaluate_knn(model, val, val, out, nb_knn=(3,))
    other = ImageDataset(val.source, eval_transform(model.preset, crop_pct=0.9))
    with pytest.raises(pc.DataError, match="prepared differently"):
        evaluate_knn(model, train, other, out, nb_knn=(3,))
    for options in ({"nb_knn": ()}, {"nb_knn": (0, 3)}, {"temperature": 0.0}):
        with pytest.raises(
            pc.PaddleCaitError, match=r"nb_knn is \[.*\], expected numbers from 1; temperature .*, above 0"
        ):
            evaluate_knn(model, train, val, out, **options)


def test_labels_without_train_images_are_noted(bench):
    model, train, val, out = bench
    shifted = val.source.relabelled([(label + 5,) for label in val.source.labels], "shifted")
    result = evaluate_knn(model, train, ImageDataset(shifted, val.transform), out, nb_knn=(3,), workers=0)
    strange = sum(label + 5 >= CLASSES for label in val.source.labels)
    assert f"{strange} validation images have a label that no train image has" in result.notes[0]


SCRIPT = """
import json, sys
from paddle_cait import runtime
runtime.prepare("cpu")
import paddle_cait as pc
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import eval_transform
from paddle_cait.engine.knn import evaluate_knn
import paddle.distributed as dist

here = sys.argv[1]
model = pc.create_model("tiny", here + "/drawn.npz", num_classes=0, preset_file=here + "/presets.yaml")
sets = [ImageDataset(open_source(here + "/" + name, num_classes=7), eval_transform(model)) for name in ("train", "val")]
result = evaluate_knn(model, *sets, here + "/out", nb_knn=(1, 3, 10, 20), workers=0, batch_size=4)
if dist.get_rank() == 0:
    with open(here + "/result.json", "w") as file:
        json.dump(result.as_dict(), file, default=str)
"""


def test_two_processes_count_exactly(bench, expected, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(tmp_path / "log")]
    words = [sys.executable, "-W", "ignore", *launch, str(tmp_path / "script.py"), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["processes"] == 2 and found["n"] == VAL
    assert_counts({c["k"]: (c["top1_correct"], c["top5_correct"]) for c in found["knn"]}, expected)
    model, train, val, out = bench
    for dataset in (train, val):  # each row was written, by one process or the other
        features = extract_features(model, dataset, out)
        assert features.computed == 0 and features.labels.tolist() == dataset.source.labels


def correct(count, n=50000):
    """Rows of which ``count`` are right."""
    label = np.zeros(n, np.int64)
    top = np.where(np.arange(n)[:, None] < count, 0, 1) + np.zeros((n, 5), np.int64)
    return Rows(np.arange(n), label, top, np.ones(n), np.zeros(n))


@pytest.fixture
def table():
    number = dataclasses.replace(pc.get_preset("cait_xxs24_224").published, top1=74.5, protocol="knn")

    def result(**changes):
        base = KnnResult(
            model="drawn",
            n=50000,
            temperature=0.07,
            rows={10: correct(37300), 20: correct(37250), 100: correct(36000)},
            names=None,
            preprocess=number.preprocess,
            backend="pillow",
            weights_sha256="0" * 64,
            weights_file="dino.pth",
            weights_notes=[],
            train={"images": 1281167, "n": 1281167, "skipped": []},
            dataset={"images": 50000, "n": 50000, "skipped": []},
            skipped=[],
            width=384,
            features=[],
            device="cpu",
            processes=1,
            feature_seconds=1.0,
            search_seconds=1.0,
            label_set="ILSVRC2012",
        )
        return dataclasses.replace(base, **changes)

    return number, result


def test_the_recommended_k_or_the_best_may_agree(table):
    number, result = table
    verdict = judge_knn(result(), number)
    assert verdict.status == "PASS" and "k = 20 (recommended; the published number does not name its k)" in str(verdict)
    assert verdict.difference == pytest.approx(0)
    best = judge_knn(result(rows={10: correct(37250), 20: correct(37000)}), number)
    assert best.status == "PASS" and "k = 10 (the best of 10, 20" in best.reason
    worse = judge_knn(result(rows={10: correct(37200), 20: correct(37100), 100: correct(37250 - 60)}), number)
    assert worse.status == "FAIL" and "k = 10" in worse.reason and worse.difference == pytest.approx(-0.1)
    assert judge_knn(result(rows={5: correct(37250)}), number).status == "PASS"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 49999}, "49,999 images were evaluated"),
        ({"temperature": 0.1}, "the temperature is 0.1, the published number used 0.07"),
        (
            {"train": {"n": 130000, "skipped": []}},
            "130,000 train images voted, the published number used all 1,281,167",
        ),
        ({"train": {"n": 1281166, "skipped": [(3, "a")]}}, "1 unreadable train images were skipped"),
        ({"weights_sha256": ""}, "no weights were loaded"),
        ({"backend": "cv2"}, "resized with cv2"),
        ({"label_set": "ImageNet-ReaL"}, "ImageNet-ReaL"),
    ],
)
def test_what_does_not_compare(table, changes, reason):
    number, result = table
    verdict = judge_knn(result(**changes), number)
    assert verdict.status == "NOT COMPARABLE" and reason in verdict.reason


def test_without_a_number_of_this_protocol(table):
    number, result = table
    assert judge_knn(result(), None).status == "NOT COMPARABLE"
    linear = judge_knn(result(), dataclasses.replace(number, protocol="linear"))
    assert str(linear) == "NOT COMPARABLE: the published number is of the protocol linear"


def flags(data, *words):
    parser = argparse.ArgumentParser()
    eval_protocols.add_arguments(parser)
    args = parser.parse_args(list(words))
    args.data = str(data)
    return args


def class_folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(root / name / "a.png")


def test_where_train_images_are_looked_for(tmp_path):
    class_folders(tmp_path / "set" / "train", "cat", "dog")
    class_folders(tmp_path / "set" / "val", "cat", "dog")
    class_folders(tmp_path / "elsewhere", "cat", "dog")
    val = open_source(tmp_path / "set" / "val", num_classes=2)
    beside = [flags(tmp_path / "set"), flags(tmp_path / "set" / "val")]
    given = flags(tmp_path / "set", "--train-data", str(tmp_path / "elsewhere"))
    for args, root in zip((*beside, given), ("set/train", "set/train", "elsewhere")):
        train = open_train(args, val)
        assert (train.root, train.labels) == (tmp_path / root, [0, 1])
    listed = tmp_path / "set" / "train_list.txt"
    listed.write_text("train/dog/a.png 1\n")
    explicit = flags(tmp_path / "elsewhere", "--train-list", str(listed))
    for args in (*beside, explicit):
        assert open_train(args, val).names == ["train/dog/a.png"]
    with pytest.raises(pc.ConfigError, match="no train_list.txt and no folder train in or beside .*; give"):
        open_train(flags(tmp_path / "elsewhere"), val)


def test_class_folders_must_agree(tmp_path):
    class_folders(tmp_path / "train", "bird", "cat", "dog")
    class_folders(tmp_path / "val", "cat", "dog")
    with pytest.raises(pc.DataError, match="class cat has label 1 here, 0 in"):
        open_train(flags(tmp_path / "val"), open_source(tmp_path / "val"))


def test_the_report(bench):
    model, train, val, out = bench
    args = flags(val.source.root, "--nb-knn", "1", "3")
    common = {"output_dir": out, "limit": None, "batch_size": 8, "workers": 0, "on_error": "stop", "resume": False}
    vars(args).update(common)
    result = eval_protocols.run_knn(args, model, val.transform, val.source, train.source)
    number = dataclasses.replace(model.preset.published, n=VAL)
    verdict = judge_knn(result, number)
    lines = eval_protocols.knn_text(result, number, verdict).split("\n")
    count = result.rows[3].top1_correct
    assert f"  k = 3       top-1 {100 * count / VAL:.3f} ({count}/{VAL})" in "\n".join(lines)
    assert sum("best" in line for line in lines[:-1]) == 1 and lines[-1] == str(verdict)
    plain = json.loads(json.dumps(eval_protocols.knn_plain(result, model.preset, number, verdict), default=str))
    assert plain["verdict"]["status"] == verdict.status and plain["published"]["top1"] == number.top1
    assert plain["knn"][1] == result.counts(3) and plain["protocol"] == "knn"


def test_a_slice_of_features_is_read_from_the_disk(tmp_path):
    values = np.arange(20 * 3, dtype=np.float32).reshape(20, 3)
    values.tofile(tmp_path / "features.f32")
    rows = np.delete(np.arange(20), [4, 11])
    features = Features(tmp_path, 3, rows, np.zeros(18, np.int64), rows, [])
    for part in (slice(0, 3), slice(2, 9), slice(10, 18), slice(15, 30)):
        np.testing.assert_array_equal(features[part], values[rows[part]])
