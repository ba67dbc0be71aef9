"""recognize-moves: what is written out as reshapes becomes the operator that it means.

    r = reshape(x, [n, g, c // g, h, w])
    t = contiguous(transpose(r, 1, 2))      ->      y = channel_shuffle(x, groups=g)
    y = reshape(t, [n, c, h, w])
    y = reshape(x, [n, -1])                 ->      y = flatten(x, start_dim=1)

  1. Batch, height and width are read from x itself, so that every input means the same.
  2. Channels are split into g groups, and these change places with the channels of a group.

Preserved: every output, bit for bit.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any, ClassVar

from torch.fx import Node

from fxq.ir.facts import info
from fxq.ir.ops import OPS, attribute, op_name
from fxq.ir.rewriter import Rewriter
from fxq.ir.rules import Match, Rule
from fxq.ir.stages import Stage
from fxq.passes.base import RulePass

_RESHAPE, _SWAP = frozenset({"reshape"}), frozenset({"transpose"})


class ShuffleChannels(Rule):
    """Two reshapes around a transposition become a channel shuffle."""

    pattern: ClassVar[tuple[Set[str], ...]] = (
        _RESHAPE, _SWAP, frozenset({"contiguous"}), _RESHAPE)
    code = "no-shuffle"

    def why_not(self, match: Match) -> str | None:
        split, swap, join = match.first, match.nodes[1], match.last
        source: Any = split.args[0]
        apart, together = (list(attribute(n, "shape")) for n in (split, join))
        if len(apart) != 5 or len(together) != 4 or len(info(source).shape or ()) != 4:
            return "it is no image whose channels are split in two"
        for sizes in ((apart[0], *apart[3:]), (together[0], *together[2:])):  # 1
            if not all(_reads(size, source, dim) for size, dim in zip(sizes, (0, 2, 3),
                                                                      strict=True)):
                return "its batch, height and width are not those of its input"
        if {attribute(swap, "dim0"), attribute(swap, "dim1")} != {1, 2}:  # 2
            return "other dimensions change places"
        if info(join).shape != info(source).shape or not isinstance(apart[1], int):  # 2
            return "its result has another shape"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        groups, last = attribute(match.first, "shape")[1], match.last
        new = rewriter.call(OPS["channel_shuffle"], (match.first.args[0],), {"groups": groups},
                            like=last, before=last)
        rewriter.replace(last, new, "reshapes are a channel shuffle")


class ShuffleChannelsAtOnce(ShuffleChannels):
    """The same without a copy in between."""

    pattern = (_RESHAPE, _SWAP, _RESHAPE)


class FlattenImages(Rule):
    """A reshape that keeps the batch and joins the rest becomes a flatten."""

    pattern = (_RESHAPE,)
    code = "no-flatten"

    def why_not(self, match: Match) -> str | None:
        source: Any = match.first.args[0]
        shape = list(attribute(match.first, "shape"))
        if len(shape) != 2 or shape[1] != -1 or not _reads(shape[0], source, 0):  # 1
            return "it does not keep the batch and join the rest"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        node = match.first
        new = rewriter.call(OPS["flatten"], (node.args[0],), {"start_dim": 1}, like=node,
                            before=node)
        rewriter.replace(node, new, "a reshape is a flatten")


def _reads(size: Any, source: Node, dim: int) -> bool:
    """A size that the graph reads from this dimension of this value."""
    return isinstance(size, Node) and op_name(size) == "size" and size.args[0] is source and (
        attribute(size, "dim") == dim)


@dataclass(frozen=True)
class RecognizeMoves(RulePass):
    """Reshapes that only move values become the operators that kernels know."""

    name: ClassVar[str] = "recognize-moves"
    before: ClassVar[Stage] = Stage.NORMAL
    after: ClassVar[Stage] = Stage.NORMAL
    rules: ClassVar[tuple[Rule, ...]] = (ShuffleChannels(), ShuffleChannelsAtOnce(),
                                         FlattenImages())
