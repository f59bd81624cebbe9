"""Linear and Conv2D against Paddle's own: the same results, gradients and behaviour in every mode."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_cait.layers import init


def pair(kind, bias=True):
    """Ours and Paddle's with the same drawn parameters."""
    ours = init.linear(6, 5, bias) if kind == "linear" else init.conv(3, 5, 3, 2, padding=1, bias=bias)
    theirs = (
        nn.Linear(6, 5, bias_attr=None if bias else False)
        if kind == "linear"
        else nn.Conv2D(3, 5, 3, 2, padding=1, bias_attr=None if bias else False)
    )
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        mine.set_value(paddle.randn(mine.shape))
        other.set_value(mine)
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"), [("linear", [6]), ("linear", [4, 6]), ("linear", [2, 3, 6]), ("conv", [2, 3, 8, 10])]
)
def test_results_and_gradients_are_paddles(kind, shape, bias):
    ours, theirs = pair(kind, bias)
    x = paddle.randn(shape)
    weights = paddle.randn(theirs(x).shape)  # a plain sum would hide a mistake in the order of the outputs
    found = []
    for layer in (ours, theirs):
        given = x.clone()
        given.stop_gradient = False
        out = layer(given)
        (out * weights).sum().backward()
        found.append([out, given.grad, *(parameter.grad for parameter in layer.parameters())])
    assert len(found[0]) == 3 + bias
    for mine, other in zip(*found):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", ["", "x", "weight", "bias", "x weight", "x bias", "weight bias"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_what_is_frozen_is_left_out_and_the_rest_keeps_its_gradient(kind, frozen):
    """Paddle's addmm crashes the process in the backward pass if the bias, which it repeats, is frozen."""
    found = []
    x = paddle.randn([7, 6] if kind == "linear" else [2, 3, 8, 8])
    for layer in pair(kind):
        given = x.clone()
        leaves = {"x": given, "weight": layer.weight, "bias": layer.bias}
        for name, leaf in leaves.items():
            leaf.stop_gradient = name in frozen
        (layer(given) ** 2).sum().backward()
        found.append({name: leaf.grad for name, leaf in leaves.items()})
    for name in found[0]:
        assert (found[0][name] is None) == (name in frozen)
        if name not in frozen:
            np.testing.assert_allclose(found[0][name].numpy(), found[1][name].numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_learning_changes_no_bit_of_the_result(kind):
    ours, _ = pair(kind)
    x = paddle.randn([7, 6] if kind == "linear" else [2, 3, 8, 8])
    learning = ours(x)
    with paddle.no_grad():
        assert (ours(x) == learning).all()
    for parameter in ours.parameters():
        parameter.stop_gradient = True  # a frozen layer inside a model that learns
    frozen = ours(x)
    assert (frozen == learning).all() and frozen.stop_gradient
    assert not learning.stop_gradient


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_graphs_hold_paddles_own_operators(kind):
    """Inference engines know ``matmul + add`` and ``conv2d``; they have no pass for the CPU's forms."""
    ours, theirs = pair(kind)
    shape = [-1, 6] if kind == "linear" else [-1, 3, 8, 8]
    found = []
    for layer in (ours, theirs):
        layer.eval()  # in training Paddle's graph of the gradients warns of itself
        graph = paddle.jit.to_static(layer, input_spec=[paddle.static.InputSpec(shape, "float32")], full_graph=True)
        found.append([_name(op) for op in graph.forward.main_program.global_block().ops])
    assert found[0] == found[1]
    x = paddle.randn([2, *shape[1:]])
    np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy(), rtol=1e-5, atol=1e-5)


def _name(op):
    return op.name() if callable(getattr(op, "name", None)) else op.type  # Paddle 3, Paddle 2
