"""What an evaluation found, and everything it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from paddle_cait.data.label_sets import UNNAMED
from paddle_cait.engine.metrics import Rows
from paddle_cait.engine.progress import Failed
from paddle_cait.engine.verdict import Verdict, judge
from paddle_cait.presets import Preprocess, Published
from paddle_cait.versions import versions


@dataclass
class EvalResult:
    """Counts over ``n`` images and everything they depend on. Percentages are divided once, from the integers.

    Attributes:
        model: the preset's full name, or the class's.
        n: images that were counted.
        top1_correct, top5_correct: how many of them have their label as the best, among the best five classes.
        loss: mean cross-entropy in nats; where several labels are right, their probabilities add up.
        rows: what was predicted, an entry an image.
        names: paths of all images of the data set, to be looked up by ``rows.index``; None where it has none.
        preprocess, backend: how images were prepared; None where the data set does not say.
        weights_file, weights_sha256: the checkpoint; empty without one.
        weights_notes: why it may not be the one whose numbers were published.
        dataset: how many images it has, how many were asked for; of a path also the reader, the root, the fingerprint.
        skipped: (index, message) of each image that could not be read.
        device, processes, batch_size: what computed, how many together, images a step of each.
        seconds: that this run took, decoding included.
        images_per_second: of the images that this run computed, in all processes together.
        label_set: the published set of labels, such as ``ILSVRC2012``, ``ImageNet-ReaL`` or ``ImageNet-A``, or
            ``unnamed``.
        n_not_counted: images left out because the set says of no class that it is right for them.
        engine, precision: what computed the logits (``dygraph``, ``openvino``, ...), and in what.
        runtime: its version, its settings, and the ``files`` it ran, if these are not the weights: name -> sha256.
        versions: of Python and the packages that touch numbers.
        notes: what was noticed, such as an accuracy near chance and what it looks like.
    """

    model: str
    n: int
    top1_correct: int
    top5_correct: int
    loss: float
    rows: Rows = field(repr=False)
    names: list[str] | None = field(repr=False)
    preprocess: Preprocess | None
    backend: str | None
    weights_sha256: str
    weights_file: str
    dataset: dict[str, Any]
    skipped: list[Failed]
    device: str
    processes: int
    batch_size: int
    images_per_second: float
    seconds: float
    label_set: str = UNNAMED
    n_not_counted: int = 0
    weights_notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=versions)
    notes: list[str] = field(default_factory=list)
    engine: str = "dygraph"
    precision: str = "fp32"
    runtime: dict[str, Any] = field(default_factory=dict)

    @property
    def top1(self) -> float:
        """Percent of images whose best class is the label, or one of several."""
        return 100.0 * self.top1_correct / self.n if self.n else 0.0

    @property
    def top5(self) -> float:
        """Percent of images whose label, or one of several, is among the best five classes."""
        return 100.0 * self.top5_correct / self.n if self.n else 0.0

    def verdict(self, published: Published | None, others: Mapping[str, Published | None] | None = None) -> Verdict:
        """Does this agree with a published number (``get_preset(name).published``)? See :func:`judge`.

        Another precision is judged like float32, which numbers were published in, and named.
        """
        verdict = judge(self, published, others)
        if self.precision == "fp32":
            return verdict
        return replace(verdict, reason=f"{verdict.reason} (computed in {self.precision} by {self.engine})")

    def as_dict(self) -> dict[str, Any]:
        """Everything but the rows and the images' names, for JSON."""
        plain = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("rows", "names", "preprocess")
        }
        preprocess = asdict(self.preprocess) if self.preprocess else None
        return {**plain, "top1": self.top1, "top5": self.top5, "preprocess": preprocess}
