"""Stores what Google's own Flax code computes for shrunk ViTs and hybrids with drawn weights.

    python tests/golden/make_flax.py CLONE      # of google-research/vision_transformer; needs jax, flax

Written to tests/golden/flax.npz: logits by case. Flax casts to float32 inside, so these are float32 results.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from draw import SHRUNK_VIT, images  # noqa: E402
from google_npz import draw_google, google_shapes  # noqa: E402

# name -> (what differs from the shrunk ViT, input size)
CASES: dict[str, dict[str, Any]] = {
    "vit": {},
    "vit_21k": {"num_classes": 11, "representation_size": 40},
    "hybrid": {"patch_size": 1, "backbone_layers": [1, 2]},
    "hybrid_even_patches": {"patch_size": 2, "backbone_layers": [2, 1], "img_size": 64},
    "hybrid_three_stages": {"patch_size": 1, "backbone_layers": [1, 1, 1], "representation_size": 40},
    "stem_only": {"patch_size": 4, "backbone_layers": []},
}


def main(clone: str) -> None:
    sys.path.insert(0, clone)
    stored = {}
    for name, changes in CASES.items():
        arch = {**SHRUNK_VIT, **changes}
        stored[name] = flax_logits(arch, images(3, arch["img_size"]))
        print(name, stored[name].shape, float(np.abs(stored[name]).max()))
    np.savez_compressed(HERE / "flax.npz", **stored)


def flax_logits(arch: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """Logits of Google's VisionTransformer; every drawn array must be one of its parameters, and the reverse."""
    import flax
    import jax
    from vit_jax.models_vit import VisionTransformer

    layers = arch.get("backbone_layers")
    model = VisionTransformer(
        num_classes=arch["num_classes"],
        patches=types.SimpleNamespace(size=(arch["patch_size"],) * 2),
        transformer={
            "mlp_dim": int(arch["embed_dim"] * arch["mlp_ratio"]),
            "num_heads": arch["num_heads"],
            "num_layers": arch["depth"],
            "attention_dropout_rate": 0.0,
            "dropout_rate": 0.0,
        },
        hidden_size=arch["embed_dim"],
        resnet=None if layers is None else types.SimpleNamespace(num_layers=tuple(layers), width_factor=1),
        representation_size=arch.get("representation_size"),
    )
    pixels = x.transpose(0, 2, 3, 1)
    expected = flax.traverse_util.flatten_dict(
        jax.eval_shape(lambda: model.init(jax.random.PRNGKey(0), pixels, train=False))["params"], sep="/"
    )
    drawn = draw_google(google_shapes(arch, "linen"))
    params = {name: value.reshape(expected[name].shape) for name, value in drawn.items()}
    assert params.keys() == expected.keys(), params.keys() ^ expected.keys()
    return np.asarray(model.apply({"params": flax.traverse_util.unflatten_dict(params, sep="/")}, pixels, train=False))


if __name__ == "__main__":
    main(sys.argv[1])
