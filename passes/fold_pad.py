"""fold-pad: let the convolution pad with zeros itself.

    p = pad(x, [1,1,2,2])      ->      c = conv2d(x, padding=(3,2))
    c = conv2d(p, padding=1)

  1. The pad is constant zero, on spatial dimensions only.
  2. It is the same on both sides of each dimension, as the convolution's own padding is.

Preserved: every output, bit for bit (the same zeros meet the same weights).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fxq.ir.facts import info
from fxq.ir.ops import OPS, Kind, attribute, attributes, op_of
from fxq.ir.rewriter import Rewriter
from fxq.ir.rules import Match, Rule
from fxq.ir.stages import Stage
from fxq.passes.base import RulePass

_CONVOLUTIONS = frozenset(op.name for op in OPS.values() if op.kind is Kind.MAC and op.rank
                          and not op.base and not op.transposed)


class PadIntoConv(Rule):
    """conv(pad(x)) becomes conv(x) with more padding."""

    pattern = (frozenset({"pad"}), _CONVOLUTIONS)
    code = "pad-not-exact"

    def why_not(self, match: Match) -> str | None:
        pad, rank = match.first, len(info(match.last).shape or ()) - 2
        amounts = attribute(pad, "pad")
        if attribute(pad, "mode") != "constant" or attribute(pad, "value"):  # 1
            return f"it pads with {attribute(pad, 'mode')} values, not with zeros"
        if any(amounts[2 * rank:]) or min(amounts) < 0:  # 1
            return "it pads other dimensions than the spatial ones, or crops"
        pairs = _pairs(amounts, rank)
        if any(left != right for left, right in pairs):  # 2
            return "it pads the two sides differently"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        conv, rank = match.last, len(info(match.last).shape or ()) - 2
        own = attribute(conv, "padding")
        padding = own if isinstance(own, tuple) else (own,) * rank
        extra = [left for left, _ in reversed(_pairs(attribute(match.first, "pad"), rank))]
        total = tuple(p + e for p, e in zip(padding, extra, strict=True))
        kwargs = attributes(conv) | {"padding": total[0] if len(set(total)) == 1 else total}
        op = op_of(conv)
        assert op is not None
        new = rewriter.call(op, (match.first.args[0], *conv.args[1:]), kwargs, like=conv)
        rewriter.replace(conv, new, "pad folded into the convolution")


def _pairs(amounts: Any, rank: int) -> list[tuple[int, int]]:
    """(left, right) a spatial dimension, last dimension first, as torch orders them."""
    full = [*amounts, *[0] * (2 * rank)][:2 * rank]
    return [(full[i], full[i + 1]) for i in range(0, 2 * rank, 2)]


@dataclass(frozen=True)
class FoldPad(RulePass):
    """Explicit zero padding becomes the convolution's own."""

    name: ClassVar[str] = "fold-pad"
    before: ClassVar[Stage] = Stage.NORMAL
    after: ClassVar[Stage] = Stage.NORMAL
    rules: ClassVar[tuple[Rule, ...]] = (PadIntoConv(),)
