"""Counts against a straightforward formula, ties, few classes, broken logits."""

import numpy as np
import pytest

from paddle_cait.engine.metrics import Rows, score
from paddle_cait.errors import PaddleCaitError


def test_counts_and_loss_equal_the_formulas():
    rng = np.random.RandomState(0)
    logits, labels = rng.randn(200, 30), rng.randint(0, 30, 200)
    rows = score(logits, labels, np.arange(200))
    ranks = np.array([(row > row[label]).sum() for row, label in zip(logits, labels)])
    assert rows.top1_correct == (ranks == 0).sum() and rows.top5_correct == (ranks < 5).sum()
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(rows.loss, -np.log(softmax[np.arange(200), labels]), rtol=1e-12)
    np.testing.assert_allclose(rows.probability, softmax.max(1), rtol=1e-12)


def test_of_equal_logits_the_lower_class_wins():
    rows = score(np.zeros((1, 6)), np.array([5]), np.array([0]))
    assert rows.top[0].tolist() == [0, 1, 2, 3, 4] and rows.top5_correct == 0


def test_fewer_than_five_classes():
    rows = score(np.array([[1.0, 3.0, 2.0]]), np.array([0]), np.array([0]))
    assert rows.top[0].tolist() == [1, 2, 0, -1, -1] and (rows.top1_correct, rows.top5_correct) == (0, 1)


def test_huge_logits_do_not_overflow():
    rows = score(np.array([[1e5, 0.0]]), np.array([1]), np.array([0]))
    assert rows.loss[0] == 1e5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_logits_name_the_image(value):
    logits = np.zeros((3, 4))
    logits[1, 2] = value
    with pytest.raises(PaddleCaitError, match="image 12 of the list gives logits that are not finite"):
        score(logits, np.zeros(3, int), np.array([11, 12, 13]))


def test_a_label_beyond_the_classes():
    with pytest.raises(PaddleCaitError, match=r"label 4 in the list, expected 0\.\.3"):
        score(np.zeros((1, 4)), np.array([4]), np.array([0]))


def test_rows_join_in_the_order_of_the_list():
    logits = np.random.RandomState(0).randn(10, 6)
    labels = np.arange(10) % 6
    whole = score(logits, labels, np.arange(10))
    parts = [score(logits[p], labels[p], np.array(p)) for p in ([7, 2], [0, 1, 9], [3, 4, 5, 6, 8])]
    joined = Rows.join(parts)
    for name in Rows.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert len(Rows.join([])) == 0 and Rows.join([]).top1_correct == 0
