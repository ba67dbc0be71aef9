"""lower: every integer operator of a REFERENCE graph becomes a kernel of the target.

    y8 = quantize(conv2d_relu(dequantize(x8), dequantize_weight(w8, s), b), s, z)
 -> y8 = conv2d_relu(x8, packed, s, z)                       packed kernels: `lower_kernels.py`
 -> y8 = conv(x8, w8, b32, multiplier, …)                    plain integers: `lower_integers.py`
    m8 = max_pool2d_on_integers(x8)      ->      m8 = max_pool2d(x8)

Quantize and dequantize at the borders of float operators become the target's own.

Preserved: integers within one step per operator (kernels round their own way at ties).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.ir import integers
from fxq.ir.rewriter import PassResult, Rewriter, label
from fxq.ir.stages import Effect, Stage
from fxq.passes.base import Pass
from fxq.passes.lower_integers import lower_integers
from fxq.passes.lower_kernels import lower_kernels


@dataclass(frozen=True)
class Lower(Pass):
    """Kernels of the target, weights prepacked, no module call on the hot path."""

    name: ClassVar[str] = "lower"
    before: ClassVar[Stage] = Stage.REFERENCE
    after: ClassVar[Stage] = Stage.LOWERED
    effect: ClassVar[Effect] = Effect.STEPWISE

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        lower = lower_integers if context.target.plain else lower_kernels
        lower(module, context.target, rewriter)
        rewriter.sweep()
        for node in list(module.graph.nodes):
            if node.target is integers.dequantize_weight:
                _unpack(node, rewriter)
        return rewriter.result()


def _unpack(node: Node, rewriter: Rewriter) -> None:
    """Weights and biases of a layer that computes in float become float once."""
    values = integers.constant_value(node)
    assert values is not None
    new = rewriter.constant(f"{label(node)}.float", values, node)
    rewriter.replace(node, new, "dequantized once")
