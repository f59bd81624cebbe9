"""Stores what timm computes for a shrunk CaiT with drawn weights: logits, features and the output of every block.

    python tests/golden/make_cait.py            # needs the extra `oracles`

Written to tests/golden/cait.npz, float64 computed, so that machines without PyTorch can check the port.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "oracles")]

import torch  # noqa: E402
import torchvision_cpu  # noqa: E402, F401  (before timm)
from draw import SHRUNK, draw_state, images  # noqa: E402
from timm.models.cait import Cait  # noqa: E402


def main() -> None:
    model = Cait(**SHRUNK).double().eval()
    state = draw_state({k: tuple(v.shape) for k, v in model.state_dict().items()})
    model.load_state_dict({k: torch.from_numpy(v).double() for k, v in state.items()})
    stored = {}

    def keep(name: str):
        return lambda module, args, output: stored.__setitem__(name, output.numpy())

    for name, module in model.named_modules():
        if name.split(".")[0] in ("blocks", "blocks_token_only") and name.count(".") == 1:
            module.register_forward_hook(keep(name))
    x = images(4, SHRUNK["img_size"])
    with torch.no_grad():
        stored["logits"] = model(torch.from_numpy(x).double()).numpy()
        stored["features"] = model.forward_features(torch.from_numpy(x).double())[:, 0].numpy()
    np.savez_compressed(HERE / "cait.npz", **stored)
    print({k: v.shape for k, v in stored.items()})


if __name__ == "__main__":
    main()
