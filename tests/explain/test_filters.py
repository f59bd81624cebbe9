"""The patch embedding's filters and their principal components, against eigenvectors of their covariance."""

import numpy as np
import paddle
import pytest
from helpers import draw_state, images, npz, official_shapes, preset

import paddle_cait as pc
from paddle_cait.errors import PaddleCaitError
from paddle_cait.explain.filters import component_shares, filter_components, patch_filters


def drawn(tmp_path, family="deit", **changes):
    tiny = preset(tmp_path, family=family, **changes)
    return pc.create_model(tiny, npz(tmp_path / "drawn.npz", draw_state(official_shapes(tiny))))


@pytest.mark.parametrize("family", ["cait", "deit"])
def test_are_what_a_patch_is_multiplied_with(family, tmp_path):
    model = drawn(tmp_path, family)
    filters = patch_filters(model)
    assert filters.shape == (40, 16, 16, 3) and filters.dtype == np.float64
    x = images(1, 48)
    with paddle.no_grad():
        patches = model.patch_embed(paddle.to_tensor(x)).numpy()[0]
    patch = x[0, :, 16:32, 32:48].transpose(1, 2, 0)  # row 1, column 2
    for channel in (0, 17, 39):
        expected = (filters[channel] * patch).sum() + float(model.patch_embed.proj.bias[channel])
        assert abs(patches[5, channel] - expected) < 1e-5


def test_components(tmp_path):
    model = drawn(tmp_path)
    filters = patch_filters(model)
    found, shares = filter_components(model, 12), component_shares(model, 12)
    assert found.shape == (12, 16, 16, 3) and shares.shape == (12,)
    rows = np.array([one.ravel() for one in filters])
    sizes, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    sizes, vectors = sizes[::-1], vectors.T[::-1]
    assert np.diff(sizes[:13]).max() < -1e-4  # apart, so that each component is one
    np.testing.assert_allclose(shares, sizes[:12] / sizes.sum(), rtol=1e-9)
    for one, vector in zip(found, vectors):
        expected = vector.reshape(16, 16, 3)
        expected = expected if expected.ravel()[np.abs(expected).argmax()] > 0 else -expected
        np.testing.assert_allclose(one, expected, atol=1e-9)
        assert one.max() == np.abs(one).max()
    assert filter_components(model).shape == (28, 16, 16, 3)
    assert component_shares(model, 39).sum() == pytest.approx(1.0)


def test_how_many(tmp_path):
    model = drawn(tmp_path)
    for n in (0, -1, 40):
        with pytest.raises(PaddleCaitError, match=rf"n is {n}, expected 1 to 39: 40 filters"):
            filter_components(model, n)
    small = drawn(tmp_path, patch_size=2)  # 12 pixels, less than 40 filters
    assert filter_components(small, 12).shape == (12, 2, 2, 3)
    with pytest.raises(PaddleCaitError, match="expected 1 to 12"):
        filter_components(small)


def test_refusals(tmp_path):
    for family, why in (("vit_hybrid", "of a ResNet's output"), ("gcvit", "overlapping convolutions")):
        with pytest.raises(PaddleCaitError, match=why):
            patch_filters(pc.create_model(preset(tmp_path, family=family)))
    model = drawn(tmp_path)
    with pytest.raises(PaddleCaitError, match="FusedModel: has no patch embedding"):
        patch_filters(pc.fuse(model))
    with pytest.raises(PaddleCaitError, match="4 channels, expected 3"):
        patch_filters(pc.create_model(preset(tmp_path), in_chans=4))
    weight = model.patch_embed.proj.weight
    weight.set_value(paddle.zeros_like(weight))
    with pytest.raises(PaddleCaitError, match="all its filters are equal"):
        filter_components(model)
    weight.set_value(paddle.full_like(weight, float("nan")))
    with pytest.raises(PaddleCaitError, match="not finite"):
        filter_components(model)
