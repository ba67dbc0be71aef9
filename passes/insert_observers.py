"""insert-observers: watch every float value that some target may want as integers.

    y = conv2d(x)      ->      y = conv2d(x_)        x_ = observer(x), y_ = observer(y)

  1. The value is a float tensor.
  2. It is read or made by an operator of the table, and that operator does more than select
     or move values (whose range is that of its input).
  3. The inputs of convolutions and linear layers are always watched, with channel means.
  4. So are those of layer norms, with the smallest deviation of a row.

Preserved: every output, bit for bit (observers pass values on).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.ir.facts import info
from fxq.ir.ops import Kind, attribute, base_name, op_name, op_of
from fxq.ir.rewriter import PassResult, Rewriter
from fxq.ir.stages import Stage
from fxq.passes.base import Pass
from fxq.quantization.observer import Observer


def needs_observer(node: Node) -> bool:
    """Conditions 1 to 4."""
    if node.op in ("get_attr", "output") or not info(node).is_float_tensor:
        return False
    op = op_of(node)
    if channel_axis(node) is not None or row_rank(node):
        return True
    if op is None:
        return any(op_of(u) for u in node.users)
    if op.kind is Kind.SAME:
        return op.narrows  # which matters when a target runs it in float
    return op.kind is not Kind.SHAPE


def channel_axis(node: Node) -> int | None:
    """Condition 3: the dimension whose means the node's readers need, if any."""
    axes = [-1 if base_name(u) == "linear" else 1 for u in node.users
            if (op := op_of(u)) is not None and op.kind is Kind.MAC and u.args[0] is node]
    return axes[0] if axes else None


def row_rank(node: Node) -> int:
    """Condition 4: how many of the last dimensions a layer norm that reads the value takes."""
    return max((len(attribute(u, "normalized_shape")) for u in node.users
                if op_name(u) == "layer_norm" and u.args[0] is node), default=0)


@dataclass(frozen=True)
class InsertObservers(Pass):
    """One observer per value, keyed by the value's name in the NORMAL graph."""

    name: ClassVar[str] = "insert-observers"
    before: ClassVar[Stage] = Stage.FUSED
    after: ClassVar[Stage] = Stage.OBSERVED

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        for node in list(module.graph.nodes):
            if needs_observer(node) and not _is_observed(node, module):
                known = info(node)
                rewriter.observe(node, Observer(known.value, known.source, channel_axis(node),
                                                row_rank(node)))
        return rewriter.result()


def _is_observed(node: Node, module: fx.GraphModule) -> bool:
    return any(u.op == "call_module" and isinstance(module.get_submodule(str(u.target)), Observer)
               for u in node.users) or (
        node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), Observer))
