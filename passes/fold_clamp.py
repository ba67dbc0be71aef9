"""fold-clamp: a clamp in front of a quantize is the range of the integers, or a clamp of them.

    q = quantize(conv2d_clamp(x, min=0, max=6))     s=6/255 z=0
 -> q = quantize(conv2d(x))                         when saturation does the clamp's work
 -> q = clamp_on_integers(quantize(conv2d(x)))      else

  1. Rounding is monotone, so quantize(clamp(v, a, b)) = clamp(quantize(v), quantize(a),
     quantize(b)); when those bounds are the ends of the integer range nothing is left to do.
  2. A fused ReLU stays where the target has a kernel that absorbs it.

Preserved: every integer, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import choose_row
from fxq.ir import integers
from fxq.ir.facts import copy_facts, info, is_on_integers
from fxq.ir.ops import OPS, Op, attributes, op_of
from fxq.ir.rewriter import PassResult, Rewriter
from fxq.ir.stages import Stage
from fxq.passes.base import Pass
from fxq.targets.base import Target


@dataclass(frozen=True)
class FoldClamp(Pass):
    """Activations with bounds cost nothing where saturation can do their work."""

    name: ClassVar[str] = "fold-clamp"
    before: ClassVar[Stage] = Stage.REFERENCE
    after: ClassVar[Stage] = Stage.REFERENCE

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        for node in list(module.graph.nodes):
            bounds = _bounds_before(node, context)
            if bounds is not None:
                _fold(node, bounds, rewriter, context.target)
        return rewriter.result()


def _bounds_before(quantize: Node, context: Context) -> tuple[float | None, float | None] | None:
    """The clamp that feeds a quantize and nothing else, unless the target absorbs it."""
    if quantize.target is not integers.quantize:
        return None
    producer = quantize.args[0]
    op = op_of(producer) if isinstance(producer, Node) else None
    if op is None or not isinstance(producer, Node) or len(producer.users) != 1:
        return None
    if op.activation == "relu":
        return None if context.target.absorbs(op.base, "relu") else (0.0, None)  # 2
    if op.activation == "clamp" or op.name == "clamp":
        values = attributes(producer)
        return values["min"], values["max"]
    return None


def _fold(quantize: Node, bounds: tuple[float | None, float | None], rewriter: Rewriter,
          target: Target) -> None:
    producer = quantize.args[0]
    assert isinstance(producer, Node)
    qparams = integers.qparams_argument(quantize)
    low = qparams.low if bounds[0] is None else qparams.integer(bounds[0])
    high = qparams.high if bounds[1] is None else qparams.integer(bounds[1])
    source = _without_clamp(producer, rewriter, target)
    new = rewriter.call(integers.quantize, (source,), dict(quantize.kwargs), like=quantize,
                        quantized=qparams)
    if (low, high) == (qparams.low, qparams.high):  # 1
        rewriter.replace(quantize, new, "saturation does the clamp's work")
        return
    clamped = rewriter.call(integers.clamp_on_integers, (new,), {"low": low, "high": high},
                            like=new, value=info(quantize), quantized=qparams)
    choose_row(clamped, target)
    rewriter.replace(quantize, clamped, f"clamp to [{low}, {high}] on integers")


def _without_clamp(producer: Node, rewriter: Rewriter, target: Target) -> Any:
    op = op_of(producer)
    assert op is not None
    if op.name == "clamp":
        return producer.args[0]
    base: Op = OPS[op.base]
    kept = {k: v for k, v in attributes(producer).items() if k in base.attributes}
    new = rewriter.call(base, producer.args, kept, like=producer, value=replace(info(producer)))
    copy_facts(producer, new)
    if is_on_integers(new):
        choose_row(new, target)
    return new
