"""ImageNet-ReaL, -A and -R end to end: counts equal to the authors' own computations, restated in plain numpy."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from helpers import draw_state, npz, official_shapes, preset
from PIL import Image

import paddle_cait as pc
from paddle_cait.cli.main import main
from paddle_cait.data import label_sets
from paddle_cait.data.imagenet import imagenet_wnids
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import open_source
from paddle_cait.engine.metrics import score

IMAGES, CLASSES = 300, 1000


class Table(paddle.nn.Layer):
    """A model whose logits for image i are row i of a table; the image's two pixels say i."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.num_classes = logits.shape[1]
        self.logits = logits.astype(np.float32)
        self.seen: list[int] = []

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        pixels = x.numpy().reshape(len(x), -1)
        rows = (pixels[:, 0] * 256 + pixels[:, 1]).astype(int)
        self.seen += rows.tolist()
        return paddle.to_tensor(self.logits[rows])


def as_written(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32)[0, 0, :, None, None]


def save(path: Path, i: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(np.array([[[i // 256, i % 256, 0]]], np.uint8)).save(buffer, "PNG")  # lossless, whatever its name
    path.write_bytes(buffer.getvalue())


def right_sets(rng: np.random.RandomState, n: int) -> list[list[int]]:
    """Sets of 0 to 4 labels, so that a random prediction is often among the best."""
    return [rng.choice(12, rng.randint(0, 5), replace=False).tolist() for _ in range(n)]


@pytest.fixture
def real(tmp_path: Path) -> SimpleNamespace:
    """300 validation images of the 50,000, with labels, logits (ties among them) and a model that gives these."""
    rng = np.random.RandomState(0)
    table = right_sets(rng, 50000)
    (tmp_path / "real.json").write_text(json.dumps(table))
    numbers = rng.permutation(50000)[:IMAGES] + 1
    logits = rng.randint(0, 9, (IMAGES, CLASSES)).astype(np.float32)
    logits[:, :12] += rng.randint(0, 4, (IMAGES, 12))
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in numbers]
    for i, name in enumerate(names):
        save(tmp_path / "val" / name, i)
    source = open_source(tmp_path / "val", real_labels=tmp_path / "real.json", num_classes=CLASSES)
    return SimpleNamespace(
        table=table, names=names, logits=logits, dataset=ImageDataset(source, as_written), path=tmp_path / "real.json"
    )


def official_real(table: list[list[int]], names: list[str], logits: np.ndarray, k: int) -> list[bool]:
    """What reassessed-imagenet's README computes, for the best k: images without labels are left out."""
    by_name = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": labels for i, labels in enumerate(table)}
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return [any(p in by_name[name] for p in row) for name, row in zip(names, best) if by_name[name]]


def test_real_counts_equal_the_official_computation(real: SimpleNamespace) -> None:
    model = Table(real.logits)
    result = pc.evaluate(model, real.dataset, workers=0, batch_size=7)
    first, five = (official_real(real.table, real.names, real.logits, k) for k in (1, 5))
    assert 0 < sum(first) < sum(five) < len(first) < IMAGES, "the drawn predictions must be right for some"
    assert (result.n, result.top1_correct, result.top5_correct) == (len(first), sum(first), sum(five))
    assert result.n_not_counted == IMAGES - len(first) and len(model.seen) == result.n  # others are not even read
    assert result.label_set == "labels of real.json" and result.dataset["classes_asked"] == CLASSES
    assert f"{IMAGES - result.n} more without a label not counted" in result.dataset["description"]

    by_name = dict(zip(real.names, np.exp(real.logits.astype(np.float64))))
    right = [real.table[int(name[15:23]) - 1] for name in real.dataset.source.names]
    chances = [by_name[name][some].sum() / by_name[name].sum() for name, some in zip(real.dataset.source.names, right)]
    np.testing.assert_allclose(result.rows.loss, -np.log(chances), rtol=1e-9)


def test_plain_labels_do_not_resume_from_real_ones(real: SimpleNamespace, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    class Interrupted(Table):
        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            if len(self.seen) > 100:
                raise StopError
            return super().forward(x)

    def options(resume: bool) -> dict[str, object]:
        return {"workers": 0, "batch_size": 20, "progress_dir": tmp_path / "out", "resume": resume}

    model = Interrupted(real.logits)
    with pytest.raises(StopError):
        pc.evaluate(model, real.dataset, **options(False))
    done = len(model.seen)
    rows = "".join(f"{name} {i % CLASSES}\n" for i, name in enumerate(real.names))
    (tmp_path / "val" / "val_list.txt").write_text(rows)
    plain = ImageDataset(open_source(tmp_path / "val", num_classes=CLASSES), as_written)
    again = type("Interrupted", (Table,), {})(real.logits)  # of the same name
    assert pc.evaluate(again, plain, **options(True)).n == len(again.seen) == IMAGES
    again.seen.clear()
    result = pc.evaluate(again, real.dataset, **options(True))
    assert len(again.seen) == result.n - done
    assert result.top1_correct == sum(official_real(real.table, real.names, real.logits, 1))


@pytest.fixture
def two_hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """600 images in 200 WordNet folders, known as ImageNet-A for the test."""
    rng = np.random.RandomState(1)
    classes = np.sort(rng.permutation(CLASSES)[:200])
    digest = label_sets._digest(",".join(map(str, classes)))
    monkeypatch.setattr(label_sets, "_SUBSET_DIGESTS", {digest: "ImageNet-A"})
    wnids = imagenet_wnids()
    label = np.repeat(classes, 3)
    logits = rng.randn(len(label), CLASSES)
    logits[np.arange(len(label)), label] += 2.5
    for i, c in enumerate(label):
        save(tmp_path / "a" / wnids[c] / f"{i:03d}.png", i)
    return SimpleNamespace(root=tmp_path / "a", classes=classes, label=label, logits=logits.astype(np.float32))


def test_subset_counts_equal_the_authors_computation(two_hundred: SimpleNamespace) -> None:
    """natural-adv-examples' eval.py: the logits of 200 classes, against ImageFolder's targets 0..199."""
    output = two_hundred.logits[:, two_hundred.classes]
    target = np.repeat(np.arange(200), 3)
    correct = int((output.argmax(1) == target).sum())
    five = int((np.argsort(-output, axis=1)[:, :5] == target[:, None]).any(1).sum())
    of_all = int((two_hundred.logits.argmax(1) == two_hundred.label).sum())
    assert of_all < correct < len(target)

    model = Table(two_hundred.logits)
    results = {}
    for subset in ("auto", "all"):
        source = open_source(two_hundred.root, num_classes=CLASSES, class_subset=subset)
        results[subset] = pc.evaluate(model, ImageDataset(source, as_written), workers=0)
    result = results["auto"]
    assert (result.n, result.top1_correct, result.top5_correct) == (len(target), correct, five)
    assert result.label_set == "ImageNet-A" and result.dataset["classes_asked"] == 200
    assert "ImageNet-A, over 200 of 1,000 classes" in result.dataset["description"]
    softmax = np.exp(output.astype(np.float64)) / np.exp(output.astype(np.float64)).sum(1, keepdims=True)
    np.testing.assert_allclose(result.rows.loss, -np.log(softmax[np.arange(len(target)), target]), rtol=1e-9)
    np.testing.assert_allclose(result.rows.probability, softmax.max(1), rtol=1e-9)
    assert np.isin(result.rows.top, two_hundred.classes).all()
    assert (results["all"].top1_correct, results["all"].label_set) == (of_all, "ImageNet-A among all classes")


def test_another_subset_of_classes_does_not_resume(two_hundred: SimpleNamespace, tmp_path: Path) -> None:
    from paddle_cait.engine.evaluate import _identity

    identities = []
    for subset in ("auto", "all"):
        dataset = ImageDataset(open_source(two_hundred.root, class_subset=subset), as_written)
        identities.append(_identity(Table(two_hundred.logits), dataset, dataset.source.label_set, [0]))
    assert identities[0] != identities[1] and identities[0]["images"] == identities[1]["images"]


def test_a_model_of_other_classes(two_hundred: SimpleNamespace, real: SimpleNamespace) -> None:
    source = open_source(two_hundred.root)  # without being told of the model
    with pytest.raises(
        pc.DataError, match="ImageNet-A has labels of 1,000 classes, the model has 21,843: pass weights"
    ):
        pc.evaluate(Table(np.zeros((600, 21843))), ImageDataset(source, as_written), workers=0)
    with pytest.raises(pc.PaddleCaitError, match=r"label 11 in the list, expected 0\.\.4: the model's classes"):
        pc.evaluate(Table(np.zeros((300, 5))), real.dataset, workers=0)


def test_a_set_chosen_to_be_misread_raises_no_alarm(two_hundred: SimpleNamespace, caplog) -> None:
    for subset, notes in (("auto", 0), ("all", 1)):
        source = open_source(two_hundred.root, num_classes=CLASSES, class_subset=subset)
        result = pc.evaluate(Table(-two_hundred.logits), ImageDataset(source, as_written), workers=0)
        assert len(result.notes) == notes


# --- the formula


def test_several_right_classes_of_which_one_is_the_plain_case() -> None:
    rng = np.random.RandomState(2)
    logits, labels, order = rng.randint(0, 5, (50, 20)), rng.randint(0, 20, 50), np.arange(50)
    plain, sets = score(logits, labels, order), score(logits, labels, order, right=[(label,) for label in labels])
    everything = score(logits, labels, order, classes=range(20))
    for name in plain.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(sets, name), getattr(plain, name))
        np.testing.assert_array_equal(getattr(everything, name), getattr(plain, name))


def test_sets_and_subsets_together_with_ties() -> None:
    rng = np.random.RandomState(3)
    logits = rng.randint(0, 4, (400, 30)).astype(float)
    asked = np.sort(rng.permutation(30)[:11])
    right = [rng.choice(asked, rng.randint(1, 4), replace=False).tolist() for _ in range(400)]
    rows = score(logits, np.zeros(400, int), np.arange(400), right, asked)
    best = asked[np.argsort(-logits[:, asked], axis=1, kind="stable")[:, :5]]
    assert rows.top1_correct == sum(row[0] in some for row, some in zip(best, right))
    assert rows.top5_correct == sum(bool(set(row) & set(some)) for row, some in zip(best, right))
    softmax = np.exp(logits) / np.exp(logits[:, asked]).sum(1, keepdims=True)
    np.testing.assert_allclose(rows.loss, [-np.log(row[some].sum()) for row, some in zip(softmax, right)], atol=1e-12)


def test_far_logits_do_not_overflow() -> None:
    rows = score(np.array([[1e5, 0.0, -1e5, 1.0]]), np.array([0]), np.array([0]), right=[(1, 2)])
    assert rows.loss[0] == 1e5 and rows.label[0] == 1


def test_fewer_than_five_classes_are_asked() -> None:
    rows = score(np.array([[9.0, 1.0, 3.0, 2.0]]), np.array([3]), np.array([0]), classes=[1, 2, 3])
    assert rows.top[0].tolist() == [2, 3, 1, -1, -1] and (rows.top1_correct, rows.top5_correct) == (0, 1)


def test_a_label_that_is_not_asked() -> None:
    with pytest.raises(pc.PaddleCaitError, match="label 3 is not among the classes asked"):
        score(np.zeros((1, 4)), np.array([3]), np.array([0]), classes=[0, 1])
    with pytest.raises(pc.PaddleCaitError, match=r"label 4 in the list, expected 0\.\.3"):
        score(np.zeros((1, 4)), np.array([0]), np.array([0]), right=[(0, 4)])


# --- the command


def test_the_command_says_which_labels(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    thousand = preset(tmp_path, num_classes=CLASSES)
    npz(tmp_path / "drawn.npz", draw_state(official_shapes(thousand)))
    table: list[list[int]] = [[] for _ in range(50000)]
    for number, labels in ((1, []), (2, list(range(1000))), (3, [5])):
        table[number - 1] = labels
        image = Image.new("RGB", (50, 50), (60 * number, 9, 200))
        (tmp_path / "val").mkdir(exist_ok=True)
        image.save(tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    (tmp_path / "real.json").write_text(json.dumps(table))
    words = ["eval", "--model", "tiny", "--preset-file", "presets.yaml", "--weights", "drawn.npz", "--data", "val"]
    assert main([*words, "-j", "0", "--device", "cpu", "--real-labels", "real.json", "--json", "result.json"]) == 0
    text = capsys.readouterr().out
    assert "labels of real.json, any of an image's labels is right, 1 more without a label not counted" in text
    assert "NOT COMPARABLE: the evaluation is over labels of real.json, the published number over ILSVRC2012" in text
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["n"], result["n_not_counted"], result["label_set"]) == (2, 1, "labels of real.json")
    assert result["top1_correct"] >= 1  # every class is right for the second image
    assert main([*words, "--class-subset", "present"]) == 2
    assert "validation images without labels" in capsys.readouterr().err
