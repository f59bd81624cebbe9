"""Gradient-weighted attention and Grad-CAM: the papers' formulas in float64, gradients against differences."""

import contextlib

import drawn
import numpy as np
import paddle
import pytest

import paddle_cait as pc


def gradients(built, images, classes):
    """Maps and the gradients of the classes' logits, by layer, in float64."""
    with pc.capture_attention(built, graph=True) as maps:
        logits = built(images)
    for values in maps.values():
        values.retain_grads()
    sum(logits[i, k] for i, k in enumerate(classes)).backward()
    return {name: (values.numpy().astype(np.float64), values.grad.numpy()) for name, values in maps.items()}


@pytest.mark.parametrize(
    ("family", "changes"), [("vit", {}), ("deit", {"distilled": True}), ("deit3", {}), ("cait", {})]
)
def test_relevance_is_chefers_product(tmp_path, family, changes):
    built = drawn.model(tmp_path, family, img_size=(48, 80), **changes)
    images = drawn.batch(built)
    found = pc.explain.gradient_attention(built, images, [1, 6, 2])
    prefix = 2 if changes else 1
    for image in range(3):
        relevance = np.eye(prefix + 15)
        for name, (values, gradient) in gradients(built, images, [1, 6, 2]).items():
            weighted = np.maximum(values[image] * gradient[image], 0).mean(0)
            step = np.zeros([prefix + 15, prefix + 15])
            first = prefix if family == "cait" and name.startswith("blocks.") else 0  # CaiT's patches are alone there
            step[first : first + len(weighted), first:] = weighted
            relevance = relevance + step @ relevance
        row = relevance[:prefix].mean(0)[prefix:]
        assert row.std() > 1e-6
        assert np.allclose(found[image].ravel(), row, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("family", ["vit", "cait"])
def test_gradients_are_differences_of_the_logit(tmp_path, family):
    built = drawn.model(tmp_path, family)
    images = drawn.batch(built, 1)
    for name, (_, gradient) in gradients(built, images, [3]).items():
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        layer, _ = built.attention_layers()[name]
        step = 0.01
        up, down = (_logit(built, layer, images, place, sign * step) for sign in (1, -1))
        assert (up - down) / (2 * step) == pytest.approx(gradient[place], rel=0.01)


@contextlib.contextmanager
def changed(layer, place, by):
    own = layer.attention

    def attention(*args):
        values = own(*args).numpy()
        values[place] += by
        return paddle.to_tensor(values)

    layer.__dict__["attention"] = attention
    yield
    del layer.__dict__["attention"]


def _logit(built, layer, images, place, by):
    with paddle.no_grad(), changed(layer, place, by):
        return built(images)[0, 3].item()


def test_the_predicted_class_is_the_default(tmp_path):
    built = drawn.model(tmp_path, "vit")
    images = drawn.batch(built)
    best = built(images).argmax(-1).tolist()
    assert len(set(best)) > 1
    assert np.array_equal(
        pc.explain.gradient_attention(built, images), pc.explain.gradient_attention(built, images, best)
    )
    other = pc.explain.gradient_attention(built, images, 3)
    assert np.array_equal(other, pc.explain.gradient_attention(built, images, [3, 3, 3]))
    assert np.allclose(other[1:2], pc.explain.gradient_attention(built, images[1:2], 3), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("level", [0, 2, -1])
def test_grad_cam_of_a_level(tmp_path, level):
    built = drawn.model(tmp_path, "gcvit", img_size=(96, 136))
    images = drawn.batch(built)
    found = pc.explain.grad_cam(built, images, 5, level)
    seen = []
    built.levels[level].register_forward_post_hook(lambda layer, x, y: seen.append(y))
    logits = built(images)
    seen[0].retain_grads()
    logits[:, 5].sum().backward()
    values, gradient = seen[0].numpy().astype(np.float64), seen[0].grad.numpy().astype(np.float64)
    for image in range(3):
        cam = np.zeros(values.shape[1:3])
        for channel in range(values.shape[-1]):
            cam += gradient[image, :, :, channel].mean() * values[image, :, :, channel]
        assert cam.min() < 0 < cam.max()
        assert np.allclose(found[image], np.maximum(cam, 0), rtol=1e-5, atol=1e-8)


def test_a_frozen_model_and_no_grad_still_have_gradients_and_modes_are_kept(tmp_path):
    built = drawn.model(tmp_path, "vit")
    images = drawn.batch(built)
    expected = pc.explain.gradient_attention(built, images, 1)
    for parameter in built.parameters():
        parameter.stop_gradient = True
    built.train()
    with paddle.no_grad():
        assert np.allclose(pc.explain.gradient_attention(built, images, 1), expected, rtol=1e-5, atol=1e-9)
    assert built.training and images.stop_gradient
    assert all(parameter.stop_gradient and parameter.grad is None for parameter in built.parameters())


def test_refusals_say_why(tmp_path):
    vit, gcvit, dino = (drawn.model(tmp_path, family) for family in ("vit", "gcvit", "dino"))
    with pytest.raises(pc.PaddleCaitError, match="its maps are of windows, use grad_cam"):
        pc.explain.gradient_attention(gcvit, drawn.batch(gcvit))
    with pytest.raises(pc.PaddleCaitError, match="last block's patches have no gradient: use gradient_attention"):
        pc.explain.grad_cam(vit, drawn.batch(vit))
    with pytest.raises(pc.PaddleCaitError, match="Dino: gives features, but a gradient explains a class's score"):
        pc.explain.gradient_attention(dino, drawn.batch(dino))
    for built, method in ((vit, pc.explain.gradient_attention), (gcvit, pc.explain.grad_cam)):
        with pytest.raises(pc.PaddleCaitError, match="FusedModel: has no gradients to explain"):
            method(pc.fuse(built), drawn.batch(built))
    for target in (7, [1, 2], [0, 0, -1]):
        with pytest.raises(pc.PaddleCaitError, match="expected a class from 0 to 6, or one for each of 3 images"):
            pc.explain.gradient_attention(vit, drawn.batch(vit), target)
    with pytest.raises(pc.PaddleCaitError, match="level is 4, expected 0 to 3"):
        pc.explain.grad_cam(gcvit, drawn.batch(gcvit), level=4)
