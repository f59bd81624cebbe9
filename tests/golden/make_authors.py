"""Stores what the authors' own PyTorch code computes for shrunk DeiT, DeiT III, DINO and DINOv2 with drawn weights.

    python tests/golden/make_authors.py DEIT DINO DINOV2   # clones of facebookresearch; needs the extra `oracles`

Written to tests/golden/authors.npz, computed in float64: logits (distilled: of training, both), tokens, and tokens at
other sizes, where each code resamples its position table by its own rule.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "oracles")]

import torch  # noqa: E402
import torchvision_cpu  # noqa: E402, F401  (before timm)
from draw import SHRUNK_VIT, draw_state, images  # noqa: E402

OTHER_SIZES = (32, 64, 112)
ARCH = {key: SHRUNK_VIT[key] for key in ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")}
NORM = partial(torch.nn.LayerNorm, eps=1e-6)


def drawn(model: Any) -> Any:
    state = draw_state({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model.double().eval()


def pixels(size: int = ARCH["img_size"]) -> torch.Tensor:
    return torch.from_numpy(images(3, size)).double()


def deit(clone: str, stored: dict[str, np.ndarray]) -> None:
    sys.path.insert(0, clone)
    models, models_v2 = importlib.import_module("models"), importlib.import_module("models_v2")
    model = drawn(models.DistilledVisionTransformer(num_classes=7, qkv_bias=True, norm_layer=NORM, **ARCH))
    stored["deit_distilled/logits"] = model(pixels()).numpy()
    pair = model.train()(pixels())
    stored["deit_distilled/pair"] = np.stack([logits.numpy() for logits in pair])
    model = models_v2.vit_models(
        num_classes=7, qkv_bias=True, norm_layer=NORM, block_layers=models_v2.Layer_scale_init_Block, **ARCH
    )
    stored["deit3/logits"] = drawn(model)(pixels()).numpy()


def dino(clone: str, stored: dict[str, np.ndarray]) -> None:
    sys.path.insert(0, clone)
    module = importlib.import_module("vision_transformer")
    model = module.VisionTransformer(qkv_bias=True, norm_layer=NORM, **{**ARCH, "img_size": [ARCH["img_size"]]})
    model = drawn(model)
    for size in (ARCH["img_size"], *OTHER_SIZES):
        stored[f"dino/{size}"] = model(pixels(size)).numpy()
    for i, tokens in enumerate(model.get_intermediate_layers(pixels(), 2)):
        stored[f"dino/layer{i}"] = tokens.numpy()


def dinov2(clone: str, stored: dict[str, np.ndarray]) -> None:
    sys.path.insert(0, clone)
    module = importlib.import_module("dinov2.models.vision_transformer")
    cases = {
        "dinov2": {},
        "dinov2_reg": {"num_register_tokens": 4, "interpolate_antialias": True, "interpolate_offset": 0.0},
        "dinov2_swiglu": {"ffn_layer": "swiglufused", "num_register_tokens": 2},
    }
    for name, changes in cases.items():
        model = drawn(module.DinoVisionTransformer(init_values=1.0, block_chunks=0, **ARCH, **changes))
        for size in (ARCH["img_size"], *OTHER_SIZES):
            out = model.forward_features(pixels(size))
            parts = [out["x_norm_clstoken"][:, None], out["x_norm_regtokens"], out["x_norm_patchtokens"]]
            stored[f"{name}/{size}"] = torch.cat(parts, 1).numpy()


def main(clones: list[str]) -> None:
    stored: dict[str, np.ndarray] = {}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated imports and xFormers hints of the authors' code
        for make, clone in zip((deit, dino, dinov2), clones):
            make(clone, stored)
    np.savez_compressed(HERE / "authors.npz", **stored)
    print({name: value.shape for name, value in stored.items()})


if __name__ == "__main__":
    main(sys.argv[1:4])
