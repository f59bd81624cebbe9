"""Evaluation speed beside timm's own validate loop, and the input pipeline beside torchvision with Pillow.

    python tests/oracles/bench_eval.py FOLDER --model cait_xxs24_224 --images 250 --rounds 3

FOLDER holds photographs and a val_list.txt. Both sides get the same drawn weights, photographs, batch size, threads
and worker processes; rounds are interleaved and medians compared. Also counts for how many photographs both predict the
same class.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "golden")]

from paddle_cait import runtime  # noqa: E402

runtime.prepare("cpu")  # before torch and timm
import numpy as np  # noqa: E402

import torchvision_cpu  # noqa: E402  # isort: skip
import timm  # noqa: E402
import torch  # noqa: E402
from draw import draw_state  # noqa: E402

import paddle_cait as pc  # noqa: E402
from paddle_cait.data.loader import ImageDataset, load_batches  # noqa: E402
from paddle_cait.data.sources import open_source  # noqa: E402


class Photographs(torch.utils.data.Dataset):
    """What timm's validate.py reads: files through torchvision's loader and transforms."""

    def __init__(self, paths: list[str], labels: list[int], transform: Callable) -> None:
        self.paths, self.labels, self.transform = paths, labels, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(torchvision_cpu.pil_loader(self.paths[i])), self.labels[i]


def validate(model: torch.nn.Module, loader: torch.utils.data.DataLoader) -> np.ndarray:
    """timm's validate loop: logits, loss and top-k of every batch; returns the predicted classes."""
    predicted = []
    with torch.inference_mode():
        for images, labels in loader:
            logits = model(images)
            torch.nn.functional.cross_entropy(logits, labels).item()
            predicted.append(logits.topk(5).indices[:, 0].numpy())
    return np.concatenate(predicted)


def timed(work: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", default="cait_xxs24_224")
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    theirs = timm.create_model(args.model).eval()
    state = draw_state({name: tuple(value.shape) for name, value in theirs.state_dict().items()})
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    with tempfile.TemporaryDirectory() as scratch:
        torch.save({"model": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, f"{scratch}/official.pth")
        ours = pc.create_model(args.model, weights=f"{scratch}/official.pth")
    source = open_source(args.folder, num_classes=1000)
    transform = pc.eval_transform(args.model)
    dataset = ImageDataset(source, transform)
    chosen = [i * len(source) // args.images for i in range(args.images)]
    photographs = Photographs(
        [source.path(i) for i in chosen],
        [source.labels[i] for i in chosen],
        torchvision_cpu.reference_transform(transform.preprocess),
    )
    loader = torch.utils.data.DataLoader(photographs, args.batch_size, num_workers=args.workers)
    batches = [chosen[i : i + args.batch_size] for i in range(0, len(chosen), args.batch_size)]
    options = {"batch_size": args.batch_size, "workers": args.workers}
    work = {
        "evaluate, ours": lambda: pc.evaluate(ours, dataset, limit=args.images, **options).rows.top[:, 0],
        "evaluate, timm": lambda: validate(theirs, loader),
        "pipeline, ours": lambda: sum(len(b.indices) for b in load_batches(dataset, batches, args.workers)),
        "pipeline, torchvision": lambda: sum(len(labels) for _, labels in loader),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    results = {}
    for _ in range(args.rounds):
        for name, run in work.items():
            spent, results[name] = timed(run)
            seconds[name].append(spent)
    same = int((results["evaluate, ours"] == results["evaluate, timm"]).sum())
    print(f"{args.model}, {args.images} photographs, batch {args.batch_size}, ", end="")
    print(f"{args.workers} workers, {args.rounds} rounds")
    speed = {name: args.images / statistics.median(times) for name, times in seconds.items()}
    for name, value in speed.items():
        print(f"  {name:<22} {value:8.1f} images/s")
    print(f"  ratio evaluate {speed['evaluate, ours'] / speed['evaluate, timm']:.2f}, ", end="")
    print(f"pipeline {speed['pipeline, ours'] / speed['pipeline, torchvision']:.2f}")
    print(f"  same prediction for {same} of {args.images} photographs")


if __name__ == "__main__":
    main()
