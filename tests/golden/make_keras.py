"""Stores what gcvit-tf (Keras) computes for shrunk GCViTs with drawn weights, and the files it writes.

    TF_USE_LEGACY_KERAS=1 python tests/golden/make_keras.py     # needs tensorflow, tf_keras, gcvit, matplotlib

Written to tests/golden: gcvit_keras.h5 (weights), gcvit_keras.keras (the whole model, with LayerScale), gcvit_keras.npz
(logits). gcvit-tf pads its max pooling with zeros, NVlabs' code and timm with -inf: here the pooling is theirs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import tensorflow as tf  # noqa: E402
from draw import images  # noqa: E402
from gcvit.models.gcvit import GCViT  # noqa: E402

ARCH = {"window_size": (2, 2, 4, 2), "dim": 4, "depths": (2, 1, 2, 1), "num_heads": (1, 1, 2, 2), "mlp_ratio": 2.0}


class BorderOfMinusInfinity(tf.keras.layers.Layer):
    def call(self, x):
        return tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-np.inf)


def drawn(name: str, layer_scale: float | None) -> tf.keras.Model:
    model = GCViT(num_classes=7, head_act="linear", layer_scale=layer_scale, name=name, **ARCH)
    x = tf.zeros([1, 64, 64, 3])
    model(x)
    for layer in model._flatten_layers():
        if type(layer).__name__ == "FeatExtract" and not layer.keep_dim:
            layer.pad2 = BorderOfMinusInfinity()
    rng = np.random.RandomState(0)
    for weight in model.weights:
        shape, leaf = weight.shape, weight.name.split("/")[-1]
        if leaf.startswith("gamma"):
            value = (1.0 if leaf == "gamma:0" else 0.2) + 0.1 * rng.standard_normal(shape)
        elif leaf.startswith(("beta", "bias")):
            value = 0.1 * rng.standard_normal(shape)
        elif leaf.startswith("relative"):
            value = rng.standard_normal(shape)
        else:
            inputs = np.prod(shape[:-1]) if "depthwise" not in leaf else np.prod(shape[:2])
            value = rng.standard_normal(shape) / np.sqrt(inputs)
        weight.assign(value.astype("float32"))
    return model


def main() -> None:
    x = images(3, 64).transpose(0, 2, 3, 1)
    plain, scaled = drawn("gcvit_shrunk", None), drawn("gcvit_scaled", 1e-5)
    logits = {"h5": plain(x).numpy(), "keras": scaled(x).numpy()}
    plain.save_weights(HERE / "gcvit_keras.h5")
    for layer in scaled._flatten_layers():
        if type(layer).__name__ == "FeatExtract" and not layer.keep_dim:
            layer.pad2 = tf.keras.layers.ZeroPadding2D(1)  # as the package saves it
    scaled.save(HERE / "gcvit_keras.keras")
    np.savez_compressed(HERE / "gcvit_keras.npz", **logits)
    print({name: float(np.abs(value).max()) for name, value in logits.items()})


if __name__ == "__main__":
    main()
