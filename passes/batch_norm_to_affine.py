"""batch-norm-to-affine: a batch norm on its own becomes one multiply and one add.

    y = batch_norm(x, mean, var, gamma, beta)      ->      y = affine(x, scale, shift)

  1. The batch norm uses its running statistics, and they are finite.

Preserved: outputs up to float rounding (scale and shift are computed in float64).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fxq.ir.facts import set_unfolded
from fxq.ir.ops import OPS
from fxq.ir.origins import Unfolded
from fxq.ir.rewriter import Rewriter, label
from fxq.ir.rules import Match, Rule
from fxq.ir.stages import Effect, Stage
from fxq.passes.base import RulePass
from fxq.passes.fold_batch_norm import norm_of, scale_and_shift, why_not_constant


class NormIntoAffine(Rule):
    """batch_norm(x) becomes affine(x)."""

    pattern = (frozenset({"batch_norm"}),)
    code = "batch-norm-not-constant"

    def why_not(self, match: Match) -> str | None:
        return why_not_constant(match.first)  # 1

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        norm = match.first
        path = label(norm)
        scale, shift = (rewriter.constant(f"{path}.{name}", tensor.float(), norm)
                        for name, tensor in zip(("scale", "shift"), scale_and_shift(norm),
                                                strict=True))
        new = rewriter.call(OPS["affine"], (norm.args[0], scale, shift), {}, like=norm,
                            before=norm)
        set_unfolded(new, Unfolded(None, None, norm_of(norm)))
        rewriter.replace(norm, new, "batch norm is a multiply and an add")


@dataclass(frozen=True)
class BatchNormToAffine(RulePass):
    """Batch norms that no layer could take become affine operators."""

    name: ClassVar[str] = "batch-norm-to-affine"
    before: ClassVar[Stage] = Stage.NORMAL
    after: ClassVar[Stage] = Stage.NORMAL
    effect: ClassVar[Effect] = Effect.REASSOCIATING
    rules: ClassVar[tuple[Rule, ...]] = (NormIntoAffine(),)
