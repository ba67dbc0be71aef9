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

import torch
from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.ir import integers
from fxq.ir.facts import is_on_integers, qparams
from fxq.ir.rewriter import PassResult, Rewriter, label
from fxq.ir.stages import Stage
from fxq.kernels.calls import get_call
from fxq.kernels.lookup_tables import has_table, table_of
from fxq.kernels.rows import row_of
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
            if context.target.plain and _is_function(node):
                _tabulate(node, rewriter)
        return rewriter.result()


def _is_function(quantize: Node) -> bool:
    """Conditions 1 and 2, of a rounding that has no table yet."""
    if quantize.target is not integers.quantize or len(quantize.args) > 1:
        return False
    function = quantize.args[0]
    row = row_of(function) if isinstance(function, Node) and is_on_integers(function) else None
    if row is None or get_call(row.call).form != "function" or not isinstance(function, Node):
        return False
    sources = [a for a in function.args
               if isinstance(a, Node) and a.target is integers.dequantize]
    formats = [qparams(quantize), *(qparams(s.args[0]) for s in sources)]  # type: ignore[arg-type]
    return len(sources) == 1 and has_table(function) and all(
        f is not None and f.dtype is torch.uint8 for f in formats)


def _tabulate(quantize: Node, rewriter: Rewriter) -> None:
    function = quantize.args[0]
    assert isinstance(function, Node)
    table = table_of(function, integers.qparams_argument(quantize))
    constant = rewriter.constant(f"{label(function)}.table", table, quantize)
    quantize.args = (function, constant)
    rewriter.note(function, "a table of 256 results")
