"""Augmentation against timm, torchvision and DeiT's formulas: the same pixels where an operation is deterministic, the
same distribution where it is drawn."""

import random

import numpy as np
import pytest
from PIL import Image
from torchvision_cpu import torch, transforms

from paddle_cait.data.augment.crop import RandomResizedCrop, SimpleRandomCrop
from paddle_cait.data.augment.erasing import RandomErasing
from paddle_cait.data.augment.operations import INCREASING, Surroundings
from paddle_cait.data.augment.policies import ColorJitter, RandAugment, ThreeAugment

timm_augment = pytest.importorskip("timm.data.auto_augment", reason="compares with timm")
timm_erasing = pytest.importorskip("timm.data.random_erasing", reason="compares with timm")

FILL = (124, 116, 104)
AROUND = Surroundings(FILL, (Image.Resampling.BICUBIC,))


@pytest.fixture(scope="module")
def photo():
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (12, 16, 3), np.uint8)
    return Image.fromarray(smooth).resize((97, 80), Image.Resampling.BICUBIC)


class Direction:
    """A generator that always answers with one direction: ours and timm's draw it in different ways."""

    def __init__(self, negative):
        self.value = 0.9 if negative else 0.1

    def random(self):
        return self.value


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("magnitude", [0, 0.4, 3, 5.5, 9, 10])
@pytest.mark.parametrize("name", INCREASING)
def test_operations_give_timms_pixels(name, magnitude, negative, photo, monkeypatch):
    if (name, magnitude) == ("PosterizeIncreasing", 10):  # timm fails here on Pillow 13, which refuses 0 bits
        ours = INCREASING[name](photo, 1.0, Direction(negative), AROUND)
        assert not np.asarray(ours).any() and ours.size == photo.size
        return
    monkeypatch.setattr(random, "random", lambda: 0.9 if negative else 0.1)
    hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    theirs = timm_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)(photo)
    ours = INCREASING[name](photo, magnitude / 10, Direction(negative), AROUND)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_operations_are_timms_increasing_set():
    assert list(INCREASING) == timm_augment._RAND_INCREASING_TRANSFORMS


def test_randaugment_draws_as_timm():
    """Which operations, how many of them, how strong: counted over many draws."""
    text = "rand-m9-mstd0.5-inc1"
    ours = RandAugment.parse(text, AROUND)
    theirs = timm_augment.rand_augment_transform(text, {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC})
    assert (ours.layers, ours.prob) == (theirs.num_layers, theirs.ops[0].prob)
    assert (ours.magnitude, ours.deviation) == (theirs.ops[0].magnitude, theirs.ops[0].magnitude_std)
    rng = np.random.default_rng(0)
    strengths = np.array([ours.strength(rng) for _ in range(20000)])
    random.seed(0)
    expected = np.array([max(0.0, min(random.gauss(9, 0.5), 10.0)) / 10 for _ in range(20000)])
    np.testing.assert_allclose(np.quantile(strengths, [0.01, 0.25, 0.5, 0.75, 0.95]),
                               np.quantile(expected, [0.01, 0.25, 0.5, 0.75, 0.95]), atol=0.008)  # fmt: skip
    assert strengths.max() == expected.max() == 1.0


@pytest.mark.parametrize(
    ("text", "field", "value"), [("rand-m7-inc1", "magnitude", 7), ("rand-m9-n3-inc1", "layers", 3),
                                 ("rand-m9-p0.3-inc1", "prob", 0.3), ("rand-m15-mmax30-inc1", "most", 30)]
)  # fmt: skip
def test_randaugment_notation(text, field, value):
    hparams = {"img_mean": FILL}
    theirs = timm_augment.rand_augment_transform(text, hparams)
    ours = RandAugment.parse(text, AROUND)
    assert getattr(ours, field) == value
    op = theirs.ops[0]
    assert (ours.magnitude, ours.layers, ours.prob) == (op.magnitude, theirs.num_layers, op.prob)
    assert ours.most == (op.magnitude_max or 10)
    assert ours.strength(np.random.default_rng(0)) == min(ours.magnitude, ours.most) / 10


def test_operations_are_chosen_evenly(photo, monkeypatch):
    seen = []
    for name in INCREASING:
        monkeypatch.setitem(INCREASING, name, lambda image, s, r, a, name=name: seen.append(name) or image)
    ours, rng = RandAugment.parse("rand-m9-mstd0.5-inc1", AROUND), np.random.default_rng(1)
    for _ in range(6000):
        ours(photo, rng)
    counts = np.array([seen.count(name) for name in INCREASING])
    assert abs(counts.sum() / 12000 - 0.5) < 0.015  # half of the layers do nothing
    assert abs(counts / counts.sum() - 1 / 15).max() < 0.01


@pytest.mark.parametrize("size", [(500, 375), (120, 480), (640, 100), (33, 31)])
def test_crops_are_torchvisions_in_distribution(size):
    ours = RandomResizedCrop(224, [Image.Resampling.BICUBIC])
    rng = np.random.default_rng(0)
    mine = np.array([ours.box(size, rng) for _ in range(8000)], float)
    torch.manual_seed(0)
    image = torch.empty(3, size[1], size[0])
    theirs = np.array(
        [transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(8000)]
    )
    theirs = np.stack([theirs[:, 1], theirs[:, 0], theirs[:, 1] + theirs[:, 3], theirs[:, 0] + theirs[:, 2]], 1)
    scale = np.array([*size, *size])
    for level in (0.05, 0.3, 0.5, 0.8):
        found, expected = (np.quantile(boxes, level, axis=0) / scale for boxes in (mine, theirs))
        np.testing.assert_allclose(found, expected, atol=0.04)
    areas = [((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])).mean() / (size[0] * size[1]) for b in (mine, theirs)]
    assert abs(areas[0] - areas[1]) < 0.015


def test_a_crop_has_torchvisions_pixels(photo):
    ours = RandomResizedCrop(64, [Image.Resampling.BICUBIC])
    rng = np.random.default_rng(3)
    left, top, right, bottom = ours.box(photo.size, np.random.default_rng(3))
    theirs = transforms.functional.resized_crop(
        photo, top, left, bottom - top, right - left, [64, 64], transforms.InterpolationMode.BICUBIC
    )
    np.testing.assert_array_equal(np.asarray(ours(photo, rng)), np.asarray(theirs))


class Corner:
    """A generator that takes the lowest number."""

    def integers(self, low, high=None):
        return low if high is not None else 0


@pytest.mark.parametrize("size", [(97, 80), (80, 97), (64, 64)])
def test_the_simple_crop_has_torchvisions_pixels(size, photo):
    photo = photo.resize(size)
    ours = SimpleRandomCrop(64, Image.Resampling.BICUBIC)(photo, Corner())
    both = transforms.Compose(
        [transforms.Resize(64, transforms.InterpolationMode.BICUBIC), transforms.Pad(4, padding_mode="reflect")]
    )
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(both(photo).crop((0, 0, 64, 64))))


@pytest.mark.parametrize(("choice", "theirs"), [(0, "grey"), (1, "solarize")])
def test_three_augment(choice, theirs, photo):
    class Choice:
        def integers(self, most):
            assert most == 3
            return choice

    ours = ThreeAugment()(photo, Choice())
    expected = {"grey": transforms.Grayscale(3), "solarize": lambda image: timm_augment.solarize(image, 128)}[theirs]
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(expected(photo)))


def test_colour_jitter_is_torchvisions(photo):
    """One component at a time: with all three the order is drawn."""
    for i, name in enumerate(("brightness", "contrast", "saturation")):
        amounts = [0.0, 0.0, 0.0]
        amounts[i] = 0.4
        factor = np.random.default_rng(5)
        factor.permutation(3)
        adjust = getattr(transforms.functional, f"adjust_{name}")
        ours = ColorJitter(amounts)(photo, np.random.default_rng(5))
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(adjust(photo, factor.uniform(0.6, 1.4))))


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
def test_erasing_is_timms_in_distribution(mode):
    ours, rng = RandomErasing(0.25, mode), np.random.default_rng(0)
    theirs = timm_erasing.RandomErasing(0.25, mode=mode, device="cpu")
    random.seed(0)
    torch.manual_seed(0)
    marks = 100.0
    shares, values = [], []
    for _ in range(2500):
        mine = ours(np.full((3, 40, 56), marks, np.float32), rng)
        other = theirs(torch.full((3, 40, 56), marks)).numpy()
        shares.append([(mine != marks).mean(), (other != marks).mean()])
        values.append([mine[mine != marks], other[other != marks]])
    shares = np.array(shares)
    assert abs((shares[:, 0] > 0).mean() - (shares[:, 1] > 0).mean()) < 0.03
    erased = [shares[shares[:, i] > 0, i] for i in (0, 1)]
    np.testing.assert_allclose(*(np.quantile(e, [0.1, 0.5, 0.9]) for e in erased), atol=0.04)
    mine, other = (np.concatenate([pair[i] for pair in values]) for i in (0, 1))
    assert abs(mine.mean() - other.mean()) < 0.15 and abs(mine.std() - other.std()) < 0.15
    if mode == "const":
        assert set(mine) == {0.0}
