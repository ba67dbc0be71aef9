"""The one place where nodes are given kernels: at placement, and again where operators change.

Everything later (fusions on integers, saturation proofs, lowering, the engine guard) reads what was
kept, with `fxq.kernels.rows.row_of`.
"""

from __future__ import annotations

import torch
from torch import fx
from torch.fx import Node

from fxq.ir.facts import Info, info, is_on_integers, set_info
from fxq.ir.integers import float_op_of, is_integer_operator, round_at_run_time
from fxq.ir.ops import OPS, Op, op_of
from fxq.kernels.rows import Kernel, keep_row
from fxq.targets.base import Target


def kernel_or_reason(node: Node, target: Target) -> Kernel | tuple[str, str]:
    """The row for a node of a FUSED graph, or (code, sentence) why it stays in float.

    An activation that no row absorbs is left to fold-clamp.
    """
    return target.choose(node)


def row_for(node: Node, target: Target, op: Op | None = None) -> Kernel | None:
    """The row that computes all of a node, absorbed activation or sum included, or None.

    `op` is what the node will become, where that is not what it is.
    """
    op = op or op_of(node)
    row = target.choose(node, op)
    return row if isinstance(row, Kernel) and op and row.absorbs == op.activation else None


def choose_row(node: Node, target: Target) -> Kernel | None:
    """Choose the row of a node of a REFERENCE graph, and keep it."""
    row = row_for(_in_float(node) or node, target)
    keep_row(node, row)
    return row


def choose_rows(module: fx.GraphModule, target: Target) -> None:
    """Choose for a whole REFERENCE graph: one from a file, which may be for another target."""
    for node in module.graph.nodes:
        if is_on_integers(node) or _is_dynamic(node) or is_integer_operator(node):
            choose_row(node, target)


def _is_dynamic(node: Node) -> bool:
    return bool(node.args) and getattr(node.args[0], "target", None) is round_at_run_time


def _in_float(node: Node) -> Node | None:
    """The float operator that an integer one stands for, as limits ask it; in no graph."""
    if not is_integer_operator(node):
        return None
    op, graph = float_op_of(node) or OPS["clamp"], fx.Graph()

    def operand(source: Node) -> Node:
        twin = graph.placeholder(source.name)
        set_info(twin, Info(info(source).shape, torch.float32))
        return twin

    kwargs = {k: v for k, v in node.kwargs.items() if k in op.attributes}
    twin = graph.call_function(op.call, fx.map_arg(node.args, operand), kwargs)
    set_info(twin, Info(info(node).shape, torch.float32))
    return twin
