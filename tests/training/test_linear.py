"""The linear probe: its classifier against scikit-learn's formula, its run against the model it writes."""

import json
import sys

import numpy as np
import pytest
from make_run import CLASSES, arrays, recipe, train

import paddle_cait as pc
from paddle_cait.errors import ConfigError
from paddle_cait.training.logistic import DECAYS, _fit, fit


def drawn(n=400, width=12, classes=3):
    rng = np.random.RandomState(1)
    labels = rng.randint(0, classes, n)
    centres = rng.randn(classes, width)
    features = centres[labels] + rng.randn(n, width) * 2
    return (features * rng.uniform(0.1, 9, width) + 5).astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("decay", [1.0, 1e-2, 1e-4])
def test_the_gradient_of_the_objective_vanishes(decay):
    """In float64 and by hand: mean cross entropy and decay / 2 |W|^2 on features of mean 0 and variance 1."""
    features, labels = drawn()
    found = _fit(features, labels, 3, [decay])[0]
    std, mean = features.std(0, dtype=np.float64), features.mean(0, dtype=np.float64)
    x, weight = (features - mean) / std, found.weight * std[:, None]
    logits = x @ weight + found.bias + mean @ found.weight.astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    assert np.abs(x.T @ p / len(labels) + decay * weight).max() < 1e-5
    assert np.abs(p.mean(0)).max() < 1e-5


def test_the_decay_is_that_of_the_smallest_held_out_loss():
    features, labels = drawn(n=90, width=40)  # so few images that a small decay learns them by heart
    found, losses = fit(features, labels, 3)
    assert tuple(losses) == DECAYS and found.decay == min(losses, key=losses.get)
    assert DECAYS[-1] < found.decay and losses[DECAYS[-1]] > 1.3 * losses[found.decay]
    assert fit(features, labels, 3)[0].weight.tobytes() == found.weight.tobytes()


def test_a_constant_feature_and_a_class_of_one_image():
    features, labels = drawn()
    features[:, 3] = 7.0
    labels[0] = 3
    found, losses = fit(features, labels, 4)
    assert np.isfinite(found.weight).all() and np.abs(found.weight[3]).max() == 0
    assert np.isfinite(list(losses.values())).all()


def test_the_probe_is_a_model_like_any(start, photos, tmp_path):
    result = train(start, photos, tmp_path / "out", recipe(tune="linear"))
    assert result.best_top1 == 100.0 and len(result.history) == 1  # colours are told apart by any features
    written = arrays(result.best)
    with np.load(start[1]) as before:
        same = [n for n in before.files if not n.startswith("head")]
        assert all(np.array_equal(before[n], written[n] if written[n].shape == before[n].shape else written[n].T)
                   for n in same if before[n].ndim != 2 or before[n].shape[0] != before[n].shape[1])  # fmt: skip
    about = json.loads((tmp_path / "out" / "best.pdparams.json").read_text())
    assert about["class_names"] == list(CLASSES) and about["run"]["setting tune"] == "linear"
    model = pc.create_model(pc.get_preset(start[0].name, start[1].parent / "presets.yaml"), result.best, num_classes=3)
    again = pc.evaluate(model, photos, list_file=photos / "val_list.txt")
    assert (again.n, again.top1_correct) == (12, result.history[0]["val_top1_correct"])


def test_its_features_are_kept_and_its_result_is_not_overwritten(start, photos, tmp_path):
    first = train(start, photos, tmp_path / "out", recipe(tune="linear"))
    with pytest.raises(ConfigError, match="holds a run already"):
        train(start, photos, tmp_path / "out", recipe(tune="linear"))
    stored = next((tmp_path / "out" / "features").glob("*/features.f32"))
    before, weights = stored.stat().st_mtime_ns, first.best.read_bytes()
    train(start, photos, tmp_path / "out", recipe(tune="linear"), resume=True)
    assert stored.stat().st_mtime_ns == before and first.best.read_bytes() == weights


def test_what_has_no_linear_probe(start, photos, tmp_path):
    with pytest.raises(ConfigError, match="tune: linear needs --weights"):
        pc.finetune(start[0].name, photos, tmp_path / "out", recipe=recipe(tune="linear"),
                    preset_file=start[1].parent / "presets.yaml")  # fmt: skip


def test_without_scipy_it_says_so_before_any_feature(start, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ConfigError, match="tune: linear needs SciPy: pip install scipy"):
        train(start, photos, tmp_path / "out", recipe(tune="linear"))
    assert not (tmp_path / "out" / "features").exists()


def test_the_loss_of_many_images_is_that_of_their_parts(monkeypatch):
    features, labels = drawn()
    found = _fit(features, labels, 3, [1e-2])[0]
    whole = found.loss(features, labels)
    monkeypatch.setattr("paddle_cait.training.logistic._ROWS", 57)
    assert abs(found.loss(features, labels) - whole) < 1e-7  # the products are in float32
    assert np.abs(_fit(features, labels, 3, [1e-2])[0].weight - found.weight).max() < 1e-6
