"""fold-qdq: remove the quantize and dequantize pairs that cancel.

    quantize(dequantize(q, s, z), s, z)                 ->   q
    quantize(max_pool2d(dequantize(q, s, z)), s, z)     ->   max_pool2d_on_integers(q)

  1. Both sides have the same scale, zero point and range.
  2. Between them stands nothing, or one operator that was placed on integers and keeps scale and
     zero point, all of whose inputs are dequantized from that same format; only the quantize
     reads its result.

Preserved: every integer (averages round once instead of twice: within one step).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.ir import integers
from fxq.ir.facts import info, is_on_integers, qparams, set_qparams, tensor_inputs
from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import PassResult, Rewriter
from fxq.ir.stages import Effect, Stage
from fxq.kernels.rows import keep_row, row_of
from fxq.passes.base import Pass


@dataclass(frozen=True)
class FoldQdq(Pass):
    """Integers stay integers between kernels."""

    name: ClassVar[str] = "fold-qdq"
    before: ClassVar[Stage] = Stage.REFERENCE
    after: ClassVar[Stage] = Stage.REFERENCE
    effect: ClassVar[Effect] = Effect.STEPWISE

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        for node in list(module.graph.nodes):
            if node.target is integers.quantize:
                _fold(node, rewriter)
        return rewriter.result()


def _fold(quantize: Node, rewriter: Rewriter) -> None:
    producer, format_ = quantize.args[0], integers.qparams_argument(quantize)
    assert isinstance(producer, Node)
    source = _same_format(producer, format_)
    if source is not None:
        rewriter.replace(quantize, source, "quantize undoes dequantize")
        return
    op = op_of(producer)
    if op is None or op.kind is not Kind.SAME or op.name not in integers.INTEGER_OPS:
        return
    if not is_on_integers(producer):
        return
    inputs = tensor_inputs(producer)
    sources = {n: _same_format(n, format_) for n in inputs}
    if len(producer.users) != 1 or not inputs or None in sources.values():  # 2
        return
    new = rewriter.call(integers.INTEGER_OPS[op.name], _swap(producer.args, sources),
                        {**producer.kwargs, "zero_point": format_.zero_point},
                        like=producer, value=replace(info(producer), dtype=info(quantize).dtype))
    set_qparams(new, format_)
    keep_row(new, row_of(producer))
    rewriter.replace(quantize, new, f"{op.name} passes integers through")


def _same_format(node: Node, format_: Any) -> Node | None:
    """What `node` dequantizes, if it does so from this very format (condition 1)."""
    if node.target is not integers.dequantize or qparams(node.args[0]) != format_:  # type: ignore[arg-type]
        return None
    return node.args[0]  # type: ignore[return-value]


def _swap(value: Any, sources: dict[Node, Node | None]) -> Any:
    if isinstance(value, Node):
        return sources[value]
    if isinstance(value, list | tuple):
        return type(value)(_swap(v, sources) for v in value)
    return value
