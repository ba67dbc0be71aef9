"""Count bytes and multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.ir.facts import info
from fxq.ir.ops import Kind, op_name, op_of
from fxq.ir.rewriter import constant_of


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of all tensors; storage that two of them share counts once."""
    seen: dict[tuple[int, int], int] = {}
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        seen[(tensor.data_ptr(), size)] = size
    return sum(seen.values())


def model_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers of a model."""
    return tensor_bytes([*model.parameters(), *model.buffers()])


def graph_bytes(module: fx.GraphModule) -> int:
    """Bytes of all constants that a graph reads, opaque submodules included."""
    constants = [t for n in module.graph.nodes if (t := constant_of(n)) is not None]
    opaque = [module.get_submodule(str(n.target)) for n in module.graph.nodes
              if n.op == "call_module"]
    inner = [t for m in opaque for t in (*m.parameters(), *m.buffers())]
    return tensor_bytes([*constants, *inner])


def macs(node: Node) -> int:
    """Multiply-accumulates of one convolution or linear layer, for its recorded shape."""
    op = op_of(node)
    if op is None or op.kind is not Kind.MAC:
        return 0
    weight = info(node.args[1]).shape  # type: ignore[arg-type]
    output, source = info(node).shape, info(node.args[0]).shape  # type: ignore[arg-type]
    if weight is None or output is None or source is None:
        return 0
    return math.prod(source if op.transposed else output) * weight[1] * math.prod(weight[2:])


def products(node: Node) -> int:
    """Multiply-accumulates of a product of two values, for its recorded shape."""
    if op_name(node) != "matmul":
        return 0
    output, source = info(node).shape, info(node.args[0]).shape  # type: ignore[arg-type]
    return math.prod(output) * source[-1] if output and source else 0


__all__ = ["graph_bytes", "macs", "model_bytes", "products", "tensor_bytes"]
