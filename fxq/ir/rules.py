"""Rules: fusions as a pattern, a reason to leave a match alone, and a rewrite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import ClassVar

from torch.fx import Node

from fxq.ir.ops import op_name
from fxq.ir.rewriter import Rewriter, label


@dataclass(frozen=True)
class Match:
    """A chain of nodes, each but the last read only by the next."""

    nodes: tuple[Node, ...]

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def last(self) -> Node:
        return self.nodes[-1]


class Rule(ABC):
    """A fusion: `pattern` (operator names, one set per step), `why_not`, `rewrite`."""

    pattern: ClassVar[tuple[Set[str], ...]]
    code: ClassVar[str]

    def why_not(self, match: Match) -> str | None:
        """One sentence why this match must stay as it is, or None."""
        return None

    @abstractmethod
    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Replace the match, through the rewriter."""


def chain_ending_at(last: Node, pattern: tuple[Set[str], ...]) -> Match | None:
    """The chain of producers that ends at `last`, if its operators are those of the pattern."""
    nodes = [last]
    for names in reversed(pattern[:-1]):
        producer = nodes[0].args[0] if nodes[0].args else None
        if not isinstance(producer, Node) or op_name(producer) not in names:
            return None
        nodes.insert(0, producer)
    return Match(tuple(nodes)) if op_name(last) in pattern[-1] else None


def apply_rules(rewriter: Rewriter, rules: Iterable[Rule]) -> None:
    """Run every rule over the graph in order; inner values must have exactly one reader."""
    for rule in rules:
        for node in list(rewriter.graph.nodes):
            match = chain_ending_at(node, rule.pattern)
            if match:
                _apply(rewriter, rule, match)


def _apply(rewriter: Rewriter, rule: Rule, match: Match) -> None:
    shared = next((n for n in match.nodes[:-1] if len(n.users) > 1), None)
    reason = (f"its input {label(shared)} is read by {len(shared.users)} nodes" if shared
              else rule.why_not(match))
    if reason:
        rewriter.refuse(match.last, rule.code, reason)
    else:
        rule.rewrite(match, rewriter)
