"""absorb-add: a sum joins the convolution that makes one of its operands, where a kernel does both.

    a8 = quantize(conv2d(x))
    y8 = quantize(add_relu(dequantize(a8), dequantize(r8)))
 -> y8 = quantize(conv2d_add_relu(x, w, b, dequantize(r8)))

  1. The target's table has a row for the convolution with the sum, and its limits hold.
  2. Only the sum reads the convolution, and both operands have one shape.
  3. Where the kernel writes over r8: the sum is its last reader, no view shares its memory, and
     the convolution does not read it too.

The convolution is no longer rounded before the sum, so that results are closer to float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import row_for
from fxq.ir import integers
from fxq.ir.facts import info, is_on_integers, place_on_integers
from fxq.ir.ops import OPS, op_name, op_of
from fxq.ir.rewriter import PassResult, Rewriter
from fxq.ir.stages import Effect, Stage
from fxq.kernels.calls import get_call
from fxq.kernels.rows import keep_row
from fxq.passes.base import Pass

_SUMS = {"add": "conv2d_add", "add_relu": "conv2d_add_relu"}


@dataclass(frozen=True)
class AbsorbAdd(Pass):
    """Residual sums cost nothing where the convolution's kernel adds them."""

    name: ClassVar[str] = "absorb-add"
    before: ClassVar[Stage] = Stage.REFERENCE
    after: ClassVar[Stage] = Stage.REFERENCE
    effect: ClassVar[Effect] = Effect.QUANTIZING

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        overwritten: set[Node] = set()
        order = {n: i for i, n in enumerate(module.graph.nodes)}
        for node in list(order):
            if op_name(node) in _SUMS and is_on_integers(node):
                _absorb(node, order, overwritten, rewriter, context)
        return rewriter.result()


def _absorb(add: Node, order: dict[Node, int], overwritten: set[Node], rewriter: Rewriter,
            context: Context) -> None:
    operands = [n for n in add.args if isinstance(n, Node)]
    if len(operands) < 2:
        return
    for mine, other in sorted(((0, 1), (1, 0)), key=lambda p: -order[operands[p[0]]]):
        conv, rest = _convolution(operands[mine], add), operands[other]
        row = row_for(conv, context.target, OPS[_SUMS[op_name(add)]]) if conv else None  # 1
        if conv is None or row is None:
            continue
        source = _behind(conv.args[0])
        overwrites = get_call(row.call).form == "adding"
        if overwrites and (source in overwritten
                           or not _may_be_overwritten(rest, add, source, order)):
            continue
        if overwrites:
            overwritten.add(_behind(rest))
        new = rewriter.call(OPS[_SUMS[op_name(add)]], (*conv.args[:3], rest), dict(conv.kwargs),
                            like=add)
        place_on_integers(new)
        keep_row(new, row)
        order[new] = order[add]  # it takes the sum's place
        rewriter.replace(add, new, "the convolution adds")
        return


def _behind(dequantize: object) -> Node:
    """The integers that a dequantize reads."""
    assert isinstance(dequantize, Node) and isinstance(dequantize.args[0], Node)
    return dequantize.args[0]


def _convolution(dequantize: Node, add: Node) -> Node | None:
    """Condition 2: a plain convolution on integers that only the sum reads."""
    if dequantize.target is not integers.dequantize or set(dequantize.users) != {add}:
        return None
    quantize = _behind(dequantize)
    conv = quantize.args[0] if quantize.target is integers.quantize else None
    if not isinstance(conv, Node) or op_name(conv) != "conv2d" or not is_on_integers(conv):
        return None
    alone = set(quantize.users) == {dequantize} and set(conv.users) == {quantize}
    return conv if alone and info(conv).shape == info(add).shape else None


def _may_be_overwritten(rest: Node, add: Node, source: Node, order: dict[Node, int]) -> bool:
    """Condition 3."""
    if rest.target is not integers.dequantize or info(rest).shape != info(add).shape:
        return False
    memory = _behind(rest)
    maker = memory.args[0] if memory.target is integers.quantize else None
    if not isinstance(maker, Node) or not _gives_new_memory(maker) or source is memory:
        return False
    readers = [u for n in (memory, *memory.users) for u in n.users if (
        n is not memory or u.target is not integers.dequantize)]
    shared = any(integers.float_op_of(u) or op_of(u) is None for u in readers if u.op != "output")
    return not shared and all(order[u] < order[add] for u in readers if u is not add)


def _gives_new_memory(node: Node) -> bool:
    op = op_of(node)
    return op is not None and op.fresh
