"""The protocols of DINO and DINOv2 against statements of them in PyTorch: equal counts, equal logits."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")

import paddle  # noqa: E402

from paddle_cait.data.label_sets import PLAIN  # noqa: E402
from paddle_cait.engine.feature_store import Features  # noqa: E402
from paddle_cait.engine.knn import predict  # noqa: E402
from paddle_cait.engine.knn_search import nearest  # noqa: E402
from paddle_cait.engine.linear_probe import LinearProbe  # noqa: E402
from paddle_cait.weights.linear_head import read_linear_head  # noqa: E402

KS = (1, 3, 10, 20, 100, 200)


def knn_counts(train, train_labels, val, labels, k, temperature, num_classes):
    """(top-1, top-5) correct of the protocol, in PyTorch: the first of equals wins."""
    train, val = (torch.nn.functional.normalize(torch.from_numpy(x), dim=1).double() for x in (train, val))
    # product by product: a matrix product rounds copies of one image differently
    products = torch.stack([(train * image).sum(dim=1) for image in val])
    similarity, neighbours = torch.sort(products, dim=1, descending=True, stable=True)
    weights = (similarity[:, :k] / temperature).exp()
    classes = torch.from_numpy(train_labels)[neighbours[:, :k]]
    votes = torch.zeros(len(val), num_classes, dtype=torch.float64).scatter_add_(1, classes, weights)
    ranking = torch.sort(votes, dim=1, descending=True, stable=True).indices
    hits = ranking == torch.from_numpy(labels)[:, None]
    return int(hits[:, :1].sum()), int(hits[:, : min(5, k)].sum())


def counts(train, train_labels, val, labels, k, temperature):
    similarity, rows = nearest(train, val, k)
    asked = Features(None, val.shape[1], np.arange(len(val)), labels, np.arange(len(val)), [])
    rows = predict(similarity, train_labels[rows], asked, k, PLAIN, temperature)
    return rows.top1_correct, rows.top5_correct


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_knn_counts(k, temperature):
    rng = np.random.RandomState(k)
    centres = rng.randn(50, 32)
    train_labels, labels = rng.randint(0, 50, 3000), rng.randint(0, 50, 777)
    train = (centres[train_labels] + 2 * rng.randn(3000, 32)).astype(np.float32)
    val = (centres[labels] + 2 * rng.randn(777, 32)).astype(np.float32)
    train[1000:1100] = train[:100]  # duplicates, most of them with another label
    val[:50] = train[:50]
    expected = knn_counts(train, train_labels, val, labels, k, temperature, 50)
    assert counts(train, train_labels, val, labels, k, temperature) == expected
    assert 100 < expected[0] < 700


@pytest.mark.parametrize("k", KS)
def test_knn_counts_where_all_is_tied(k):
    """Vectors of +-1 have few different similarities, all exact: neighbours and votes are tied everywhere."""
    rng = np.random.RandomState(k)
    train, val = (rng.choice([-1.0, 1.0], (n, 16)).astype(np.float32) for n in (2000, 300))
    train_labels, labels = rng.randint(0, 12, 2000), rng.randint(0, 12, 300)
    train[1000:] = train[:1000]
    expected = knn_counts(train, train_labels, val, labels, k, 0.07, 12)
    assert counts(train, train_labels, val, labels, k, 0.07) == expected


class Backbone(paddle.nn.Layer):
    """Gives the tokens it was made with."""

    def __init__(self, tokens, prefix):
        super().__init__()
        self.tokens, self.num_prefix_tokens, self.num_features = tokens, prefix, tokens[0].shape[-1]

    def get_intermediate_layers(self, x, n=1):
        return [paddle.to_tensor(block) for block in self.tokens[-n:]]


def dino_features(tokens, blocks, average):
    """As DINO's classifiers were trained: pairs (class token, mean patch) of each channel where patches are used."""
    cls = torch.cat([block[:, 0] for block in tokens[-blocks:]], dim=-1)
    if not average:
        return cls
    mean = tokens[-1][:, 1:].mean(dim=1)
    return torch.stack((cls, mean), dim=2).reshape(len(cls), -1)


def dinov2_features(tokens, blocks, prefix):
    return torch.cat([*(block[:, 0] for block in tokens[-blocks:]), tokens[-1][:, prefix:].mean(dim=1)], dim=1)


@pytest.mark.parametrize(
    ("form", "prefix"),
    [("cls4", 1), ("cls1_avg_interleaved", 1), ("cls1_avg", 1), ("cls1_avg", 5), ("cls4_avg", 1), ("cls4_avg", 5)],
)
def test_linear_logits(tmp_path, form, prefix):
    rng = np.random.RandomState(0)
    tokens = [rng.randn(3, prefix + 9, 16).astype(np.float32) for _ in range(6)]
    tensors = [torch.from_numpy(block) for block in tokens]
    official = form in ("cls4", "cls1_avg_interleaved")
    if official:
        features = dino_features(tensors, int(form[3]), "avg" in form)
    else:
        features = dinov2_features(tensors, int(form[3]), prefix)
    linear = torch.nn.Linear(features.shape[1], 10)
    state = linear.state_dict()
    if official:  # with the wrapping of DINO's files
        state = {"epoch": 100, "best_acc": 77.0, "state_dict": {f"module.linear.{k}": v for k, v in state.items()}}
    torch.save(state, tmp_path / "linear.pth")
    probe = LinearProbe(Backbone(tokens, prefix), read_linear_head(tmp_path / "linear.pth"), form)
    np.testing.assert_allclose(probe(None).numpy(), linear(features).detach().numpy(), atol=1e-5)
