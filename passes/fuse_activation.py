"""fuse-activation: ReLU and clamps (ReLU6, hardtanh) join the operator that feeds them.

    c = conv2d(x, w, b)        ->      r = conv2d_relu(x, w, b)
    r = relu(c)

  1. The fused operator is in the operator table.
  2. The clamp's bounds are numbers.
  3. Whatever is no clamp (rows of plugins) has a kernel of the target: no range can stand for it.

Preserved: every output, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.ir.facts import fused_info, set_unfolded, unfolded
from fxq.ir.operator_table import each_operator
from fxq.ir.ops import ACTIVATIONS, OPS, Op, attributes, fused, op_name
from fxq.ir.rewriter import PassResult, Rewriter
from fxq.ir.rules import Match, Rule, apply_rules
from fxq.ir.stages import Stage
from fxq.passes.base import Pass
from fxq.targets.base import Target

_BASES: set[str] = set()
_ACTIVATIONS: set[str] = set()


@each_operator
def _follow(op: Op) -> None:
    """Pairs that have a fused row which takes nothing more than its base: sums come later."""
    if op.base and op.operands == OPS[op.base].operands:
        _BASES.add(op.base)
        _ACTIVATIONS.add(op.activation)


@dataclass(frozen=True)
class ActivationIntoProducer(Rule):
    """activation(op(x)) becomes op_activation(x)."""

    target: Target
    pattern = (_BASES, _ACTIVATIONS)
    code = "activation-not-fused"

    def why_not(self, match: Match) -> str | None:
        if fused(op_name(match.first), op_name(match.last)) is None:  # 1
            return f"there is no fused {op_name(match.first)}_{op_name(match.last)}"
        if any(isinstance(v, Node) for v in match.last.kwargs.values()):  # 2
            return "the bounds are computed at run time"
        names = op_name(match.first), op_name(match.last)
        if names[1] not in ACTIVATIONS and not self.target.absorbs(*names):  # 3
            return f"{self.target.name} has no kernel for {names[0]} with {names[1]}"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        first, last = match.nodes
        op = fused(op_name(first), op_name(last))
        assert op is not None
        new = rewriter.call(op, first.args, attributes(first) | attributes(last), like=first,
                            before=last, value=fused_info(first, last))
        set_unfolded(new, unfolded(first))
        rewriter.replace(last, new, f"{op_name(first)} takes {op_name(last)}")


@dataclass(frozen=True)
class FuseActivation(Pass):
    """Activations are computed where their input is."""

    name: ClassVar[str] = "fuse-activation"
    before: ClassVar[Stage] = Stage.NORMAL
    after: ClassVar[Stage] = Stage.FUSED

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        apply_rules(rewriter, (ActivationIntoProducer(context.target),))
        return rewriter.result()
