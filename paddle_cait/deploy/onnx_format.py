"""ONNX through paddle2onnx, cleaned of what the conversion leaves behind.

paddle2onnx writes every parameter as a Constant node behind an Identity, and names of its own. The fused models have
constant sizes, so that is nearly all there is to clean. onnxslim and onnxruntime's offline optimisation would merge
some transposes more (30 nodes of 1,002 in cait_xxs24_224, 17 of 398 in vit_base_patch16_224, 23 of 713 in
gcvit_xxtiny), which onnxruntime and OpenVINO do by themselves when they load the file: neither is faster by more than
2% in either runtime. So nothing but the package onnx is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddle_cait.deploy.isolation import run_python
from paddle_cait.errors import PaddleCaitError
from paddle_cait.versions import __version__, installed

OPSET = 17  # the first in which LayerNormalization is one node
_LARGEST = (1 << 31) - (64 << 20)  # protobuf's limit for one file, less what the graph takes
_SMALL = 4096  # bytes; constants up to this size are shared where they are equal

# paddle2onnx ends the process on what it does not know, so it gets one of its own. Without a file name it returns the
# bytes and runs no optimiser: those of 2.x install packages while they export.
_CONVERT = """
import paddle2onnx
graph, parameters, output, opset = sys.argv[1:]
found = paddle2onnx.export(graph, parameters, None, opset_version=int(opset), auto_upgrade_opset=True, verbose=False)
with open(output, "wb") as file:
    file.write(found)
"""


def check_size(num_bytes: int, name: str) -> None:
    """Refuse what cannot be one ONNX file before anything is computed."""
    if num_bytes > _LARGEST:
        raise PaddleCaitError(
            f"the format {name} holds at most 2 GiB, this model's weights are {num_bytes / 2**30:.1f} GiB: "
            "export --formats paddle"
        )


def write_onnx(files: Sequence[Path], path: Path, outputs: Sequence[str]) -> None:
    """Convert Paddle's inference model (``files``: graph, parameters) to ``path``, its outputs named in order."""
    import onnx

    _check_versions()
    done = run_python(_CONVERT, str(files[0]), str(files[1]), str(path), str(OPSET))
    if done.returncode or not path.is_file() or not path.stat().st_size:
        raise PaddleCaitError(f"paddle2onnx {installed('paddle2onnx')} cannot convert this model: {_reason(done)}")
    model = onnx.load(str(path))
    tidy(model, outputs)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # checker and shape inference raise their own
        raise PaddleCaitError(f"paddle2onnx {installed('paddle2onnx')} wrote an invalid graph: {error}") from error
    onnx.save(model, str(path))


def tidy(model: Any, outputs: Sequence[str]) -> None:
    """Constants become initializers, Identities go, outputs get their names, the first dimension is ``batch``."""
    graph = model.graph
    _rename(graph, {old.name: new for old, new in zip(graph.output, outputs)})
    _constants_to_initializers(graph)  # first: nodes are copied below, parameters should not be
    _bypass_identities(graph)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    graph.name = "paddle_cait"
    model.producer_name, model.producer_version = "paddle_cait", __version__


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _bypass_identities(graph: Any) -> None:
    outputs = {value.name for value in graph.output}
    computed = {name for node in graph.node for name in node.output}
    # one that makes an output gives its name to what it reads, any other one takes the name of what it reads
    last = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "Identity" and n.output[0] in outputs}
    alias = {old: new for old, new in last.items() if old in computed and old not in outputs}
    nodes = []
    for node in graph.node:  # in topological order: what an Identity reads is resolved already
        node.input[:] = [alias.get(name, name) for name in node.input]
        node.output[:] = [alias.get(name, name) for name in node.output]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        elif node.op_type != "Identity" or node.input[0] != node.output[0]:
            nodes.append(node)
    _replace_nodes(graph, nodes)


def _constants_to_initializers(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    seen: dict[bytes, str] = {}
    alias: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        tensor = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if tensor is None:
            node.input[:] = [alias.get(name, name) for name in node.input]
            nodes.append(node)
        elif node.output[0] in used:
            _add_initializer(graph, tensor, node.output[0], seen, alias)
    _replace_nodes(graph, nodes)


def _add_initializer(graph: Any, tensor: Any, name: str, seen: dict[bytes, str], alias: dict[str, str]) -> None:
    tensor.name = ""
    key = tensor.SerializeToString(deterministic=True) if tensor.ByteSize() <= _SMALL else name.encode()
    if seen.setdefault(key, name) != name:
        alias[name] = seen[key]
        return
    tensor.name = name
    graph.initializer.append(tensor)


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _check_versions() -> None:
    import paddle

    found = str(installed("paddle2onnx"))
    wanted = "2" if int(paddle.__version__.partition(".")[0] or 3) >= 3 else "1"
    if not found.startswith(f"{wanted}."):
        fitting = {"1": "1.3.1", "2": "2.1.0"}[wanted]
        raise PaddleCaitError(
            f"paddle2onnx {found} cannot read models of Paddle {paddle.__version__}: pip install paddle2onnx=={fitting}"
        )


def _reason(done: Any) -> str:
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()]
    return next(iter(telling), lines[-1] if lines else f"it ended with status {done.returncode}")[:300]
