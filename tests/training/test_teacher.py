"""A teacher sees the images as it was trained to, whatever the student's normalisation."""

import dataclasses

import numpy as np
import paddle
import pytest
from helpers import draw_state, npz, official_shapes, preset, run

import paddle_cait as pc
from paddle_cait.data.transforms import normalise
from paddle_cait.training.teacher import as_it_was_trained, open_teacher


def normalised(chosen, mean, std):
    return dataclasses.replace(chosen, preprocess=dataclasses.replace(chosen.preprocess, mean=mean, std=std))


def test_the_same_photograph_gives_the_teachers_own_logits(tmp_path):
    theirs = normalised(preset(tmp_path), (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    ours = normalised(theirs, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    teacher = pc.create_model(theirs, npz(tmp_path / "drawn.npz", draw_state(official_shapes(theirs))))
    teacher.eval()
    size = teacher.img_size[0]
    pixels = np.random.RandomState(0).randint(0, 256, (2, size, size, 3), np.uint8)
    seen, own = (np.stack([normalise(one, p.preprocess) for one in pixels]) for p in (ours, theirs))
    with paddle.no_grad():
        found = as_it_was_trained(teacher, ours.preprocess)(paddle.to_tensor(seen)).numpy()
    np.testing.assert_allclose(found, run(teacher, own), atol=1e-5)
    assert np.abs(found - run(teacher, seen)).max() > 1e-3


def test_with_the_same_normalisation_it_is_the_model_itself(tmp_path):
    chosen = preset(tmp_path)
    teacher = pc.create_model(chosen)
    assert as_it_was_trained(teacher, chosen.preprocess) is teacher


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    chosen = preset(tmp_path)
    weights = npz(tmp_path / "drawn.npz", draw_state(official_shapes(chosen)))
    student = pc.create_model(chosen, num_classes=3)
    with pytest.raises(pc.ConfigError, match=r"drawn\.npz: its classifier \(head\..*\) is not of these 3 classes"):
        open_teacher(chosen.name, weights, tmp_path / "presets.yaml", student, 3)
    own = pc.create_model(chosen)
    assert open_teacher(chosen.name, weights, tmp_path / "presets.yaml", own, chosen.num_classes).sha256
