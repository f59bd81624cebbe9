"""The whole collection of hostile and broken files, by name. Each must be refused with a WeightsError."""

from __future__ import annotations

from collections.abc import Callable

import hostile_archives
import hostile_headers
import hostile_onnx
import hostile_pickles
import hostile_tensors
import make_files as make


def pickle_wrappers() -> dict[str, Callable[[bytes], bytes]]:
    """The three places where a checkpoint has a pickle."""
    return {
        "pth-zip": lambda data: make.pth_zip_of_pickle(data, _0=bytes(48)),
        "pth-legacy": make.pth_legacy_of_pickle,
        "pdparams": lambda data: data,
    }


def collection(canary: str) -> dict[str, Callable[[], bytes]]:
    """Name -> function that makes the file's bytes. Any execution of a file would create the file ``canary``."""
    made: dict[str, Callable[[], bytes]] = {}

    def add(group: str, cases: dict[str, bytes]) -> None:
        made.update({f"{group}: {name}": (lambda data=data: data) for name, data in cases.items()})

    payloads: dict[str, Callable[[], bytes]] = {}
    for cases in (hostile_pickles.executing(canary), hostile_pickles.MALFORMED):
        payloads.update({name: (lambda data=data: data) for name, data in cases.items()})
    payloads.update(hostile_pickles.exhausting())
    for place, wrap in pickle_wrappers().items():
        made.update({f"{place}: {name}": (lambda w=wrap, p=p: w(p())) for name, p in payloads.items()})
    claims = hostile_tensors.claims()
    add("pth-zip tensor", {name: make.pth_zip(tree) for name, tree in claims.items()})
    add("pth-legacy tensor", {name: make.pth_legacy(tree) for name, tree in claims.items()})
    for place in ("pth-zip", "pth-legacy"):
        wrap = pickle_wrappers()[place]
        add(f"{place} call", {name: wrap(data) for name, data in hostile_tensors.torch_calls().items()})
    for place, wrap in pickle_wrappers().items():
        add(f"{place} nested", {name: wrap(data) for name, data in hostile_tensors.nested().items()})
    add("pth-legacy file", hostile_tensors.torch_legacy())
    add("pdparams array", hostile_tensors.pdparams_arrays())
    for group, makers in (
        ("zip", hostile_archives.zips()),
        ("npz", hostile_archives.npzs()),
        ("safetensors", hostile_headers.safetensors()),
        ("onnx", hostile_onnx.hostile()),
    ):
        made.update({f"{group}: {name}": maker for name, maker in makers.items()})
    add("cut", hostile_archives.truncated())
    add("strange", hostile_headers.strange())
    return made
