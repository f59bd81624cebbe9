"""Trains the bundled demo: timm's own CaiT, in PyTorch, on scikit-learn's handwritten digits.

    python tests/golden/make_demo.py            # about five minutes on one core; needs the extra `oracles`

Writes pretrained/demo_cait_digits.pth as the authors' training writes one ({"model": {"module.<key>": tensor}}),
pretrained/demo_digits/ (the 360 held-out digits as 8x8 PNG files in a tar, and their labels), and prints the accuracy
that PyTorch measures on them with torchvision's own transforms. That number is `published` in configs/models/demo.yaml.
"""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import torch
from digits import read_digits
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "oracles"))

import torchvision_cpu  # noqa: E402, F401  (defines the operators that torchvision expects; before torchvision and timm)
from timm.models.cait import Cait  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.transforms import InterpolationMode  # noqa: E402

ARCH = {
    "img_size": 32,
    "patch_size": 4,
    "num_classes": 10,
    "embed_dim": 48,
    "depth": 4,
    "num_heads": 4,
    "mlp_ratio": 2.0,
    "depth_token_only": 2,
    "mlp_ratio_token_only": 2.0,
    "init_values": 0.1,
}
EPOCHS, BATCH = 60, 64


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    transform = transforms.Compose(
        [
            transforms.Resize(32, InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    files, target, train, test = read_digits()
    pixels = torch.stack([transform(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    labels = torch.tensor(target)
    model = Cait(**ARCH)
    fit(model, pixels[train], labels[train])
    model.eval()
    with torch.no_grad():
        logits = model(pixels[test])
    top = logits.topk(5).indices
    top1 = int((top[:, 0] == labels[test]).sum())
    top5 = int((top == labels[test][:, None]).any(1).sum())
    loss = torch.nn.functional.cross_entropy(logits, labels[test]).item()
    torch.save(
        {"model": {f"module.{k}": v for k, v in model.state_dict().items()}}, ROOT / "pretrained/demo_cait_digits.pth"
    )
    write_digits(ROOT / "pretrained" / "demo_digits", [(files[i], target[i]) for i in test])
    params = sum(p.numel() for p in model.parameters())
    print(f"{params} parameters; held-out: top-1 {top1}/{len(test)} = {100 * top1 / len(test):.4f}, ", end="")
    print(f"top-5 {top5}/{len(test)} = {100 * top5 / len(test):.4f}, loss {loss:.6f}")


def fit(model: torch.nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    steps = EPOCHS * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            shift = torch.randint(-3, 4, (2,)).tolist()
            loss = torch.nn.functional.cross_entropy(
                model(torch.roll(pixels[batch], shift, (2, 3))), labels[batch], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}", flush=True)


def write_digits(folder: Path, digits: list[tuple[bytes, int]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "digits.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for i, (data, _) in enumerate(digits):
            info = tarfile.TarInfo(f"digit_{i:03d}.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (folder / "val_list.txt").write_text("".join(f"digit_{i:03d}.png {label}\n" for i, (_, label) in enumerate(digits)))


if __name__ == "__main__":
    main()
