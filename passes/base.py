"""What a pass is: a frozen value that turns one stage's graph into the next one's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from fxq.analysis.context import Context
from fxq.ir.rewriter import PassResult, Rewriter
from fxq.ir.rules import Rule, apply_rules
from fxq.ir.stages import Effect, Stage


class Pass(ABC):
    """A rewrite of the whole graph. Running it twice changes nothing the second time."""

    name: ClassVar[str]
    before: ClassVar[Stage]
    after: ClassVar[Stage]
    effect: ClassVar[Effect] = Effect.EXACT

    @abstractmethod
    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        """Edit `module` in place, through a Rewriter, and say what was done and refused."""


@dataclass(frozen=True)
class RulePass(Pass):
    """A pass that is nothing but its rules."""

    rules: ClassVar[tuple[Rule, ...]]

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        apply_rules(rewriter, self.rules)
        return rewriter.result()
