"""Each fault of labels or layout that people make is recognised from the predictions alone."""

import numpy as np
import pytest

from paddle_cait.data.imagenet import ilsvrc_id_to_label
from paddle_cait.engine.diagnose import diagnose
from paddle_cait.engine.metrics import Rows

N, CLASSES = 1000, 1000


def rows(label, predicted):
    n = len(label)
    top = np.stack([predicted, *(np.full(n, -1) for _ in range(4))], 1)
    return Rows(np.arange(n), np.asarray(label), top, np.ones(n), np.zeros(n))


@pytest.fixture
def truth():
    return np.random.RandomState(0).randint(1, CLASSES - 1, N)


@pytest.fixture
def guess(truth):
    """A model that is right four times in five."""
    wrong = np.random.RandomState(1).rand(N) < 0.2
    return np.where(wrong, np.random.RandomState(2).randint(0, CLASSES, N), truth)


def test_a_good_model_needs_no_diagnosis(truth, guess):
    assert diagnose(rows(truth, guess), CLASSES) is None


def test_a_bad_model_that_is_above_chance_is_left_alone(truth):
    predicted = np.where(np.random.RandomState(3).rand(N) < 0.03, truth, (truth * 7 + 3) % CLASSES)
    assert diagnose(rows(truth, predicted), CLASSES) is None


def test_few_images_are_no_evidence(truth):
    assert diagnose(rows(truth[:50], (truth[:50] + 5) % CLASSES), CLASSES) is None


def test_labels_that_start_at_one(truth, guess):
    assert "labels start at 1" in diagnose(rows(truth + 1, guess), CLASSES)


def test_labels_one_too_low(truth, guess):
    assert "one too low" in diagnose(rows(truth - 1, guess), CLASSES)


def test_the_devkits_order(truth, guess):
    table = ilsvrc_id_to_label()
    to_id = {label: number for number, label in table.items()}
    ids = np.array([to_id[int(label)] for label in truth])
    assert "ILSVRC2012_ID order" in diagnose(rows(ids, guess), CLASSES, table)
    assert "ILSVRC2012_ID order" in diagnose(rows(ids - 1, guess), CLASSES, table)


def test_labels_that_number_folders_sorted_as_text(truth, guess):
    """ImageNetV2 through ImageFolder: folder 10 becomes label 2."""
    label_of_folder = {folder: label for label, folder in enumerate(sorted(range(CLASSES), key=str))}
    text = diagnose(rows(np.array([label_of_folder[folder] for folder in truth]), guess), CLASSES)
    assert "in their order as text (0, 1, 10, 100, ...)" in text and "\n" not in text


def test_a_subset_of_the_classes_asked(truth):
    """Labels may lie beyond the number of classes asked; with several labels an image, chance is higher."""
    far = rows(truth + 500, np.random.RandomState(5).permutation(truth))
    assert "near chance for 200 classes" in diagnose(far, 200)
    lucky = rows(truth, np.where(np.arange(N) < 40, truth, (truth * 7 + 3) % CLASSES))
    assert diagnose(lucky, CLASSES) is None
    assert "near chance" in diagnose(lucky, CLASSES, labels_per_image=30)


def test_another_class_order():
    label = np.repeat(np.arange(20), 25)
    shuffled = np.random.RandomState(0).permutation(20)
    shuffled[shuffled == np.arange(20)] = (shuffled[shuffled == np.arange(20)] + 1) % 20
    assert "different class orders" in diagnose(rows(label, shuffled[label]), 20)


def test_one_class_for_everything(truth):
    assert "weights or the preprocessing" in diagnose(rows(truth, np.full(N, 3)), CLASSES)


def test_unrelated(truth):
    assert "unrelated" in diagnose(rows(truth, np.random.RandomState(5).permutation(truth)), CLASSES)
