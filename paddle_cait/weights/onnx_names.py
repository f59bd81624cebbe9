"""Names for the weights that PyTorch's ONNX exporter made anonymous, read off the graph that uses them."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable

from paddle_cait.weights.protobuf import Node, Tensor

LINEAR = ("MatMul", "Gemm", "Add")
FLOATS = (1, 10, 11, 16)  # TensorProto.DataType: float32, float16, float64, bfloat16
NAME = re.compile(r"[\w+-]+(\.[\w+-]+)*")
Claims = dict[str, list[tuple[Tensor, bool]]]  # name -> matrices that may have it, and whether they are [in, out]


class Graph:
    """The nodes around constants that lost their names."""

    def __init__(self, nodes: list[Node], constants: dict[str, Tensor], named: dict[str, Tensor]) -> None:
        self._nodes, self._constants, self._named = nodes, constants, named
        self._sorted = sorted(named)
        self._linear = self._linear_scopes()

    def matrices(self) -> Claims:
        """Name -> the anonymous matrices that seem to be that Linear's weight, and whether they are [in, out]."""
        products = {node.outputs[0]: node for node in self._nodes if self._has_matrix(node)}
        biases: dict[str, list[str]] = {}
        for node in self._nodes:
            if node.op == "Add" and len(node.inputs) == 2:
                for product, bias in (node.inputs, node.inputs[::-1]):
                    if product in products and bias in self._named:
                        biases.setdefault(product, []).append(bias)
        found: Claims = {}
        for product, node in products.items():
            matrix = self._constants[node.inputs[1]]
            width = matrix.shape[0 if node.trans_b else 1]
            beside = node.inputs[2:3] if node.op == "Gemm" else biases.get(product, [])
            fitting = [bias for bias in beside if bias in self._named and self._named[bias].shape == (width,)]
            name = self._weight_name(node, fitting)
            if name is not None:
                found.setdefault(name, []).append((matrix, not node.trans_b))
        return first_calls(found)

    def _has_matrix(self, node: Node) -> bool:
        if node.op not in ("MatMul", "Gemm") or len(node.inputs) < 2 or len(node.outputs) != 1:
            return False
        tensor = self._constants.get(node.inputs[1])
        if tensor is None or node.inputs[1] in self._named:
            return False
        return tensor.code in FLOATS and len(tensor.shape) == 2

    def _weight_name(self, node: Node, biases: list[str]) -> str | None:
        scope = scope_of(node)
        module = "" if scope is None else self._module(scope)
        inside = f"{module}." if module else ""
        if len(biases) == 1 and biases[0].startswith(inside) and biases[0].endswith("bias"):
            return biases[0][: -len("bias")] + "weight"
        return f"{inside}weight" if scope in self._linear and NAME.fullmatch(f"{inside}weight") else None

    def _linear_scopes(self) -> set[str | None]:
        """The scopes whose nodes, with those of all scopes within, are nothing but a Linear's."""
        scopes = {scope_of(node) for node in self._nodes if node.op in ("MatMul", "Gemm")} - {None}
        for node in self._nodes:
            scope = scope_of(node)
            if node.op not in LINEAR and scope is not None:
                for at in [i for i, letter in enumerate(scope) if letter == "/"]:
                    scopes.discard(scope[: at + 1])
        return scopes

    def _module(self, scope: str) -> str:
        """``/blocks/blocks.0/attn/`` -> ``blocks.0.attn``: a Sequential stands before its own members.

        A list named like the module around it looks the same (``layer.layer.0``); the named parameters decide.
        """
        path: list[str] = []
        for part in scope.strip("/").split("/"):
            if path and part.startswith(path[-1] + "."):
                plain, joined = ".".join([*path, part]), ".".join([*path[:-1], part])
                if self._is_module(joined) or not self._is_module(plain):
                    path.pop()
            path.append(part)
        return ".".join(path)

    def _is_module(self, path: str) -> bool:
        at = bisect(self._sorted, path + ".")
        return at < len(self._sorted) and self._sorted[at].startswith(path + ".")

    def tables(self) -> Iterable[tuple[str, Tensor, Tensor, tuple[int, ...]]]:
        """Position tables in two pieces: name, the class token's, the patches', the order of the latter's axes."""
        producers = {output: node for node in self._nodes for output in node.outputs}
        for node in self._nodes:
            first = self._constants.get(node.inputs[0]) if node.op == "Concat" and len(node.inputs) == 2 else None
            scope = scope_of(node)
            if first is None or scope is None or len(first.shape) != 3 or node.inputs[0] in self._named:
                continue
            found = self._resized(producers, node.inputs[1])
            if found is None:
                continue
            rest, order = found
            shape = [rest.shape[axis] for axis in order]
            if (first.shape[0], first.shape[2], first.code) == (1, shape[-1], rest.code) and shape[0] == 1:
                module = self._module(scope)
                # Hugging Face's embeddings are a module of their own; timm's and the authors' table is the model's.
                leaf = "position_embeddings" if module.split(".")[-1] == "embeddings" else "pos_embed"
                name = f"{module}.{leaf}".lstrip(".")
                if NAME.fullmatch(name):
                    yield name, first, rest, order

    def _resized(self, producers: dict[str, Node], value: str) -> tuple[Tensor, tuple[int, ...]] | None:
        """The anonymous constant that became ``value`` through one Resize and changes of layout."""
        resized = transposed = False
        for _ in range(20):
            if value in self._constants:
                tensor = self._constants[value]
                if not resized or value in self._named or len(tensor.shape) not in (3, 4):
                    return None
                # [1, n, D], [1, h, w, D] or, after folding, the Resize's own input [1, D, h, w]
                if len(tensor.shape) == 3:
                    return tensor, (0, 1, 2)
                return tensor, (0, 1, 2, 3) if transposed else (0, 2, 3, 1)
            node = producers.get(value)
            if node is None or node.op not in ("Reshape", "Transpose", "Cast", "Resize") or not node.inputs:
                return None
            transposed |= resized and node.op == "Transpose"
            resized |= node.op == "Resize"
            value = node.inputs[0]
        return None


def first_calls(found: Claims) -> Claims:
    """Without the names that a module gets when it is called again: ``/a/fc/MatMul``, later ``/a/fc_1/MatMul``."""

    def is_again(name: str) -> bool:
        first = re.sub(r"_\d+(?=\.weight$)", "", name)
        return first != name and first in found and found[first][0][0] is found[name][0][0]

    return {name: claims for name, claims in found.items() if not is_again(name)}


def scope_of(node: Node) -> str | None:
    """``/blocks.0/attn/`` for the node ``/blocks.0/attn/MatMul``, ``/`` for the outermost module; None if untold."""
    name = node.name if "/" in node.name else next(iter(node.outputs), "")
    return name[: name.rindex("/") + 1] if name.startswith("/") else None
