"""Official linear classifiers: which features they see, which files are taken for one, evaluation as of any model."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from PIL import Image

import paddle_cait as pc
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import open_source
from paddle_cait.data.transforms import EvalTransform
from paddle_cait.engine.linear_probe import LinearForm, LinearProbe, choose_form
from paddle_cait.presets import Preprocess
from paddle_cait.weights.linear_head import LinearHead, read_linear_head

DIM, BLOCKS, PATCHES, CLASSES = 6, 5, 4, 7
PREPROCESS = Preprocess(16, 1.0, "center", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Backbone(paddle.nn.Layer):
    """Tokens that are linear in the mean colour: [B, prefix + 4, 6] from each of five blocks."""

    def __init__(self, family="dino", prefix=1):
        super().__init__()
        self.num_features, self.num_prefix_tokens, self.num_classes = DIM, prefix, 0
        self.img_size = (16, 16)
        self.preset = SimpleNamespace(family=family, full_name=f"{family}_tiny.drawn", preprocess=PREPROCESS)
        self.load_report = SimpleNamespace(sha256="a" * 64, path="backbone.pth", notes=[])
        self.table = paddle.to_tensor(
            np.random.RandomState(0).randn(BLOCKS, 3, (prefix + PATCHES) * DIM).astype(np.float32)
        )

    def get_intermediate_layers(self, x, n=1):
        colour = x.mean(axis=[2, 3])
        return [(colour @ self.table[i]).reshape([len(x), -1, DIM]) for i in range(BLOCKS - n, BLOCKS)]


def weights(features, seed=1, **changes):
    rng = np.random.RandomState(seed)
    values = {"weight": rng.randn(CLASSES, features).astype(np.float32), "bias": rng.randn(CLASSES).astype(np.float32)}
    return LinearHead(**{**values, "path": "linear.pth", "sha256": "b" * 64, **changes})


@pytest.mark.parametrize("prefix", [1, 5])
@pytest.mark.parametrize("form", ["cls4", "cls1_avg_interleaved", "cls1_avg", "cls4_avg", "cls1", "cls2", "cls3_avg"])
def test_features_equal_the_definition(form, prefix):
    backbone = Backbone(prefix=prefix)
    x = np.random.RandomState(2).randn(3, 3, 16, 16).astype(np.float32)
    tokens = [t.numpy() for t in backbone.get_intermediate_layers(paddle.to_tensor(x), BLOCKS)]
    blocks = int(form[3])
    vectors = [t[:, 0] for t in tokens[-blocks:]]
    if "avg" in form:
        vectors.append(tokens[-1][:, prefix:].mean(axis=1))
    if "interleaved" in form:
        expected = np.empty((3, 2 * DIM), np.float32)
        expected[:, 0::2], expected[:, 1::2] = vectors
    else:
        expected = np.concatenate(vectors, axis=1)
    linear = weights(expected.shape[1])
    probe = LinearProbe(backbone, linear, form)
    assert str(probe.form) == form and probe.num_classes == CLASSES
    np.testing.assert_allclose(
        probe(paddle.to_tensor(x)).numpy(), expected @ linear.weight.T + linear.bias, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("family", "features", "dim", "form"),
    [
        ("dino", 1536, 384, "cls4"),  # ViT-S/16 and S/8
        ("dino", 1536, 768, "cls1_avg_interleaved"),  # ViT-B/16 and B/8
        ("dinov2", 768, 384, "cls1_avg"),  # dinov2_vits14_linear_head
        ("dinov2", 1920, 384, "cls4_avg"),  # dinov2_vits14_linear4_head
        ("dinov2", 7680, 1536, "cls4_avg"),  # dinov2_vitg14_linear4_head
        (None, 1536, 384, "cls4"),
        ("vit", 1920, 384, "cls4_avg"),
    ],
)
def test_the_form_is_known_by_width_and_family(family, features, dim, form):
    assert str(choose_form(features, dim, family)) == form == str(LinearForm.parse(form))


def test_a_form_that_is_not_known():
    with pytest.raises(
        pc.WeightsError, match=r"x\.pth: .* 1152 .* 384: none .* cls4 \(1536\), cls1_avg_interleaved \(768"
    ):
        choose_form(1152, 384, "dino", "x.pth")
    with pytest.raises(
        pc.WeightsError, match=r"several forms fit, expected cls1_avg_interleaved \(768\), cls1_avg \(768"
    ):
        choose_form(768, 384, "vit")
    with pytest.raises(pc.WeightsError, match="expected 24 for the form cls4 on a backbone of width 6"):
        LinearProbe(Backbone(), weights(12), "cls4")
    for name in ("cls0", "avg", "cls2_avg_interleaved", "cls4 "):
        with pytest.raises(pc.PaddleCaitError, match="expected clsN, clsN_avg"):
            LinearForm.parse(name)
    with pytest.raises(pc.PaddleCaitError, match="Linear has no get_intermediate_layers"):
        LinearProbe(paddle.nn.Linear(2, 2), weights(12))


def test_the_families_read_one_width_differently():
    x = paddle.to_tensor(np.random.RandomState(2).randn(2, 3, 16, 16).astype(np.float32))
    dino, dinov2 = (LinearProbe(Backbone(family), weights(2 * DIM))(x).numpy() for family in ("dino", "dinov2"))
    assert abs(dino - dinov2).max() > 0.1


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.RandomState(0)
    for i in range(12):
        pixels = rng.randint(0, 256, 3)[None, None] + rng.randint(0, 20, (20, 20, 3))
        Image.fromarray(np.minimum(pixels, 255).astype(np.uint8)).save(tmp_path / f"{i:02d}.png")
    (tmp_path / "val_list.txt").write_text("".join(f"{i:02d}.png {i % CLASSES}\n" for i in range(12)))
    return ImageDataset(open_source(tmp_path, num_classes=CLASSES), EvalTransform(PREPROCESS))


def test_it_is_evaluated_as_any_model(photographs, tmp_path):
    backbone = Backbone()
    backbone.train()
    probe = LinearProbe(backbone, weights(4 * DIM))
    result = pc.evaluate(probe, photographs, workers=0, batch_size=5, progress_dir=tmp_path / "out", resume=True)
    probe.eval()
    logits = np.concatenate([probe(paddle.to_tensor(photographs[i][0][None])).numpy() for i in range(12)])
    np.testing.assert_array_equal(result.rows.top[:, 0], logits.argmax(axis=1))
    assert result.n == 12 and result.preprocess == PREPROCESS and result.weights_file == "backbone.pth + linear.pth"
    assert (
        pc.evaluate(probe, tmp_path, workers=0).top1_correct == result.top1_correct
    )  # img_size, preset: the backbone's


def test_the_hash_covers_backbone_classifier_and_form():
    def digest(backbone="a", linear="b", form=None):
        layer = Backbone()
        layer.load_report.sha256 = backbone
        return LinearProbe(layer, weights(2 * DIM, sha256=linear), form).load_report.sha256

    found = [digest(), digest(backbone="c"), digest(linear="c"), digest(form="cls1_avg"), digest(form="cls2")]
    assert len(set(found)) == len(found) and digest() == digest(form="cls1_avg_interleaved")
    assert digest(backbone="") == "", "a probe on a backbone without weights has none"


@pytest.mark.parametrize(
    "layout", ["{}", "linear.{}", "module.linear.{}", "module.{}"], ids=["plain", "linear", "dino", "module"]
)
def test_files(tmp_path, layout):
    linear = weights(8)
    np.savez(tmp_path / "x.npz", **{layout.format(name): getattr(linear, name) for name in ("weight", "bias")})
    found = read_linear_head(tmp_path / "x.npz")
    np.testing.assert_array_equal(found.weight, linear.weight)
    np.testing.assert_array_equal(found.bias, linear.bias)
    assert found.path == str(tmp_path / "x.npz") and len(found.sha256) == 64


@pytest.mark.parametrize("features", [8, CLASSES])
def test_a_classifier_that_paddle_saved(tmp_path, features):
    layer = paddle.nn.Linear(features, CLASSES)
    paddle.save(layer.state_dict(), str(tmp_path / "x.pdparams"))
    np.testing.assert_array_equal(read_linear_head(tmp_path / "x.pdparams").weight, layer.weight.numpy().T)


@pytest.mark.parametrize(
    "content",
    [
        {"weight": np.zeros((7, 8))},
        {"weight": np.zeros((7, 8)), "bias": np.zeros(7), "norm.bias": np.zeros(7)},
        {"weight": np.zeros((7, 8)), "bias": np.zeros(9)},
        {"weight": np.zeros((7, 8, 1)), "bias": np.zeros(7)},
        {"weight": np.zeros((0, 8)), "bias": np.zeros(0)},
        {"head.weight": np.zeros((7, 8)), "head.bias": np.zeros(7)},
    ],
)
def test_files_that_hold_something_else(tmp_path, content):
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(pc.WeightsError, match=r"x\.npz: holds .*expected a linear classifier alone"):
        read_linear_head(tmp_path / "x.npz")
