"""A pass: x·sigmoid(x), written by hand, becomes SiLU."""

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from fxq.analysis.context import Context
from fxq.ir.ops import OPS, op_name
from fxq.ir.rewriter import PassResult, Rewriter
from fxq.ir.stages import Effect, Stage
from fxq.passes.base import Pass


@dataclass(frozen=True)
class FuseSilu(Pass):
    """mul(x, sigmoid(x)) -> silu(x), where nothing else reads the sigmoid."""

    name: ClassVar[str] = "fuse-silu"
    before: ClassVar[Stage] = Stage.FUSED
    after: ClassVar[Stage] = Stage.FUSED
    effect: ClassVar[Effect] = Effect.REASSOCIATING

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        for node in [n for n in module.graph.nodes if op_name(n) == "mul"]:
            x, gate = node.args
            if op_name(gate) == "sigmoid" and gate.args == (x,) and len(gate.users) == 1:
                new = rewriter.call(OPS["silu"], (x,), {}, like=node)
                rewriter.replace(node, new, "x * sigmoid(x) is SiLU")
        return rewriter.result()


FUSE_SILU = FuseSilu()
