"""Warnings are errors in tests; those that importing Paddle raises by itself are let through here, with reasons."""

import warnings

# Before paddle: on paddlepaddle 2.6 zlib and PNG code crash the process if they load after it.
import zlib  # noqa: F401

import PIL.Image  # noqa: F401

with warnings.catch_warnings():
    # paddle 3.3: "No ccache found" (about compiling operators); 2.6: deprecations inside its own imports.
    warnings.simplefilter("ignore")
    import paddle

paddle.set_device("cpu")
