"""tabulate: functions of one 8-bit value become tables of their 256 results.

    y8 = quantize(hardswish(dequantize(x8)))   ->   y8 = quantize(hardswish(dequantize(x8)), table)

  1. The target looks functions up, and chose to do so for this one.
  2. What the function reads and makes has 8 bits, and all else that it reads is one number.

The table is part of the graph, and so of its file: the functions of C's library differ in the last
bit between machines, and a rounded result may then differ by one.

Preserved: every integer, bit for bit, on the machine that makes the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.ir import integers
from fxq.ir.rewriter import PassResult, Rewriter, label
from fxq.ir.stages import Stage
from fxq.kernels.lookup_tables import is_function, table_of
from fxq.passes.base import Pass


@dataclass(frozen=True)
class Tabulate(Pass):
    """Tables of all results, computed once, where the target looks functions up."""

    name: ClassVar[str] = "tabulate"
    before: ClassVar[Stage] = Stage.REFERENCE
    after: ClassVar[Stage] = Stage.REFERENCE

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        for node in list(module.graph.nodes):
            if context.target.plain and len(node.args) == 1 and is_function(node):
                _tabulate(node, rewriter)
        return rewriter.result()


def _tabulate(quantize: Node, rewriter: Rewriter) -> None:
    function = quantize.args[0]
    assert isinstance(function, Node)
    table = table_of(function, integers.qparams_argument(quantize))
    constant = rewriter.constant(f"{label(function)}.table", table, quantize)
    quantize.args = (function, constant)
    rewriter.note(function, "a table of 256 results")
