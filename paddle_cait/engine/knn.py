"""The weighted k-NN classifier by which self-supervised backbones are measured.

Paper: Wu et al., https://arxiv.org/abs/1805.01978. Official source: facebookresearch/dino, eval_knn.py. Features are
divided by their length; the k train images of greatest cosine similarity s vote for their class with exp(s / T);
classes are ranked by their sum. Top-5 is the label among the best five classes, among the best k where k < 5.

Where the official code leaves an order open, here of equals the first wins: the earlier train image among equal
similarities, the lower class among equal sums. Classes without a vote are ranked too (they sum to 0), so top-5 depends
on that rule where fewer than five classes have votes; top-1 never does.

Deliberate deviations: one search for the greatest k serves every k; votes are exp((s - s_max) / T), which ranks classes
alike; similarities are ordered and votes added in float64; fewer than 100 images work too, which the official division
into 100 chunks does not allow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from paddle_cait.data.imagenet import ilsvrc_id_to_label
from paddle_cait.data.label_sets import PLAIN, UNNAMED, LabelSet
from paddle_cait.engine.diagnose import diagnose
from paddle_cait.engine.feature_store import Features
from paddle_cait.engine.features import extract_features
from paddle_cait.engine.knn_search import nearest
from paddle_cait.engine.metrics import Rows, score
from paddle_cait.engine.processes import gather, join_processes
from paddle_cait.engine.progress import Failed
from paddle_cait.engine.verdict import KNN_TEMPERATURE
from paddle_cait.errors import DataError, PaddleCaitError
from paddle_cait.files import PathLike
from paddle_cait.presets import Preprocess
from paddle_cait.versions import versions

if TYPE_CHECKING:
    from paddle import nn

NB_KNN = (10, 20, 100, 200)

_ROWS = 1024  # images classified at a time


def vote(similarity: np.ndarray, classes: np.ndarray, num_classes: int, temperature: float) -> np.ndarray:
    """Logarithm of each class's share of the votes, float64 [m, num_classes]; -690 for a class without votes.

    ``similarity``, ``classes``: of the neighbours that vote, [m, k], the most similar first.
    """
    weights = np.exp((similarity - similarity[:, :1]) / temperature)
    m = len(weights)
    cells = np.arange(m)[:, None] * num_classes + classes
    sums = np.bincount(cells.ravel(), weights.ravel(), m * num_classes).reshape(m, num_classes)
    return np.log(np.maximum(sums / weights.sum(axis=1, keepdims=True), 1e-300))


def predict(
    similarity: np.ndarray, classes: np.ndarray, asked: Features, k: int, labels: LabelSet, temperature: float
) -> Rows:
    """Predictions for the images ``asked`` by the first ``k`` of their neighbours' ``classes`` [m, k or more]."""
    highest = (classes.max(initial=0), asked.labels.max(initial=0), *(max(some) for some in labels.right or ()))
    num_classes = max(map(int, (*highest, *(labels.classes or ())))) + 1
    parts = []
    for first in range(0, len(asked), _ROWS):
        part = slice(first, first + _ROWS)
        logits = vote(similarity[part, :k], classes[part, :k], num_classes, temperature)
        indices = asked.indices[part]
        right = labels.right and [labels.right[i] for i in indices]
        rows = score(logits, asked.labels[part], indices, right, labels.classes)
        rows.top[:, k:] = -1  # the official top-5 of k < 5 neighbours
        parts.append(rows)
    return Rows.join(parts)


@dataclass
class KnnResult:
    """Predictions with every k for the same ``n`` images, and everything they depend on.

    ``rows``: each k's :class:`Rows`. ``temperature``: T of the votes. ``train``, ``dataset``: the images that voted and
    those that were asked. ``skipped``: of the latter. ``features``: the folders in which the features of both stay;
    ``width``: numbers a feature. ``device``, ``processes``: that computed them in ``feature_seconds``; neighbours took
    ``search_seconds``.

    As in an :class:`EvalResult`: ``model``, ``names``, ``preprocess``, ``backend``, ``weights_sha256``,
    ``weights_file``, ``weights_notes``, ``label_set``, ``n_not_counted``, ``versions``, ``notes``.
    """

    model: str
    n: int
    temperature: float
    rows: dict[int, Rows] = field(repr=False)
    names: list[str] | None = field(repr=False)
    preprocess: Preprocess | None
    backend: str | None
    weights_sha256: str
    weights_file: str
    train: dict[str, Any]
    dataset: dict[str, Any]
    skipped: list[Failed]
    width: int
    features: list[str]
    device: str
    processes: int
    feature_seconds: float
    search_seconds: float
    label_set: str = UNNAMED
    n_not_counted: int = 0
    weights_notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=versions)
    notes: list[str] = field(default_factory=list)

    @property
    def best_k(self) -> int:
        """The k of the greatest top-1; of equals the smallest."""
        return max(sorted(self.rows), key=lambda k: self.rows[k].top1_correct)

    def counts(self, k: int) -> dict[str, Any]:
        """Correct images with ``k`` neighbours, and percentages divided once from them."""
        top1, top5 = self.rows[k].top1_correct, self.rows[k].top5_correct
        percent = [100.0 * count / self.n if self.n else 0.0 for count in (top1, top5)]
        return {"k": k, "top1_correct": top1, "top5_correct": top5, "top1": percent[0], "top5": percent[1]}

    def as_dict(self) -> dict[str, Any]:
        """Everything but the rows and the images' names, for JSON."""
        hidden = ("rows", "names", "preprocess")
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in hidden}
        preprocess = asdict(self.preprocess) if self.preprocess else None
        knn = [self.counts(k) for k in sorted(self.rows)]
        return {**plain, "protocol": "knn", "knn": knn, "best_k": self.best_k, "preprocess": preprocess}


def evaluate_knn(
    model: nn.Layer,
    train: Any,
    val: Any,
    folder: PathLike,
    *,
    nb_knn: Sequence[int] = NB_KNN,
    temperature: float = KNN_TEMPERATURE,
    limit: int | None = None,
    **options: Any,
) -> KnnResult:
    """Classify the images of ``val`` by those of ``train``, in as many processes as were launched.

    Args:
        model: built with ``num_classes=0``.
        train, val: data sets as for :func:`paddle_cait.engine.evaluate.evaluate`, with one transform and one labelling.
        folder: features are kept here, 4 bytes x width an image, so that another k or a second run is quick.
        nb_knn: every k to classify with, each at least 1 and at most the number of train images.
        temperature: T, above 0; DINO's 0.07.
        limit: only so many images of ``val``, spread evenly; all of ``train`` always votes.
        options: of :func:`paddle_cait.engine.features.extract_features`: batch_size, workers, on_error, resume.

    Raises :class:`DataError` for an unreadable image and for sets that are the same or differently prepared,
    :class:`PaddleCaitError` for other numbers than these and for what ``extract_features`` refuses.
    """
    ks = sorted(set(nb_knn))
    if not ks or ks[0] < 1 or not temperature > 0:
        raise PaddleCaitError(
            f"nb_knn is {list(nb_knn)}, expected numbers from 1; temperature {temperature:g}, above 0"
        )
    if ks[-1] > len(train):
        raise PaddleCaitError(f"k is {ks[-1]}, but there are {len(train)} train images: give smaller ones (--nb-knn)")
    _check_sets(train, val)
    known = extract_features(model, train, folder, what="train", **options)
    asked = extract_features(model, val, folder, what="val", limit=limit, **options)
    labels: LabelSet = getattr(getattr(val, "source", None), "label_set", PLAIN)
    rank, world = join_processes()
    started = time.perf_counter()
    own = asked.part(len(asked) * rank // world, len(asked) * (rank + 1) // world)
    similarity, rows = nearest(known, own, ks[-1], progress=rank == 0)
    near = known.labels[rows]
    mine = {k: predict(similarity, near, own, k, labels, temperature) for k in ks}
    gathered = gather(mine, world)
    seconds = time.perf_counter() - started
    found = {k: Rows.join([part[k] for part in gathered]) for k in ks}
    result = _result(model, (train, known), (val, asked), found, temperature, world, seconds)
    result.label_set, result.n_not_counted = labels.name, labels.not_counted
    result.notes = list(_notes(result, known, labels))
    return result


def _check_sets(train: Any, val: Any) -> None:
    sources = [dataset.source for dataset in (train, val) if hasattr(dataset, "source")]
    if len(sources) == 2 and len({(str(source.root), source.fingerprint) for source in sources}) == 1:
        raise DataError("the train images are the validation images: each would be its own nearest neighbour")
    if _prepared(train) != _prepared(val):
        raise DataError("train and validation images are prepared differently: give both the same transform")


def _prepared(dataset: Any) -> tuple[Preprocess | None, str | None]:
    transform = getattr(dataset, "transform", None)
    return getattr(transform, "preprocess", None), getattr(transform, "backend", None)


def _notes(result: KnnResult, known: Features, labels: LabelSet) -> Iterator[str]:
    rows, classes = result.rows[result.best_k], np.unique(known.labels)
    strange = rows.label[~np.isin(rows.label, classes)]
    if len(strange):
        yield f"{len(strange)} validation images have a label that no train image has (the first is {strange[0]})"
    num_classes = len(labels.classes or range(int(classes.max(initial=0)) + 1))
    message = diagnose(rows, num_classes, ilsvrc_id_to_label(), labels.labels_per_image)
    if message:
        yield message


def _result(
    model: nn.Layer,
    train: tuple[Any, Features],
    val: tuple[Any, Features],
    rows: dict[int, Rows],
    temperature: float,
    world: int,
    seconds: float,
) -> KnnResult:
    import paddle

    preset, report = getattr(model, "preset", None), getattr(model, "load_report", None)
    preprocess, backend = _prepared(val[0])
    return KnnResult(
        model=preset.full_name if preset else type(model).__name__,
        n=len(val[1]),
        temperature=temperature,
        rows=rows,
        names=getattr(getattr(val[0], "source", None), "names", None),
        preprocess=preprocess,
        backend=backend,
        weights_sha256=report.sha256 if report else "",
        weights_file=report.path if report else "",
        weights_notes=list(report.notes) if report else [],
        train=_described(*train),
        dataset=_described(*val),
        skipped=val[1].skipped,
        width=train[1].width,
        features=[str(train[1].folder), str(val[1].folder)],
        device=paddle.device.get_device(),
        processes=world,
        feature_seconds=train[1].seconds + val[1].seconds,
        search_seconds=seconds,
    )


def _described(dataset: Any, features: Features) -> dict[str, Any]:
    described = {"images": len(dataset), "n": len(features), "skipped": features.skipped}
    source = getattr(dataset, "source", None)
    if source is not None:
        described.update(kind=source.kind, description=source.describe(), fingerprint=source.fingerprint)
    return described
