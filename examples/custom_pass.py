"""A fusion of one's own: x * sigmoid(x), written by hand, becomes SiLU.

    python examples/custom_pass.py
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

import fxq
from fxq.ir.ops import OPS, op_name
from fxq.ir.rewriter import Rewriter
from fxq.ir.stages import Effect, Stage
from fxq.passes.base import Pass


@dataclass(frozen=True)
class FuseSilu(Pass):
    """mul(x, sigmoid(x)) -> silu(x), where nothing else reads the sigmoid."""

    name: ClassVar[str] = "fuse-silu"
    before: ClassVar[Stage] = Stage.FUSED
    after: ClassVar[Stage] = Stage.FUSED
    effect: ClassVar[Effect] = Effect.REASSOCIATING

    def run(self, module, context):
        rewriter = Rewriter(module)
        for node in list(module.graph.nodes):
            if op_name(node) == "mul":
                self._fuse(node, rewriter)
        return rewriter.result()

    def _fuse(self, node, rewriter):
        for x, gate in (node.args, node.args[::-1]):
            if op_name(gate) == "sigmoid" and gate.args == (x,) and len(gate.users) == 1:
                new = rewriter.call(OPS["silu"], (x,), {}, like=node)
                rewriter.replace(node, new, "x * sigmoid(x) is SiLU")
                return


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


if __name__ == "__main__":
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Swish(), nn.Conv2d(8, 4, 1)).eval()
    x = torch.randn(4, 3, 16, 16)
    compiled = fxq.compile(net, example_inputs=(x,), calibration_data=[x], passes=(FuseSilu(),))
    print(compiled.report)
    assert "silu" in compiled.graph_text("FUSED")
    print(f"SQNR {fxq.sqnr(net(x), compiled(x)):.1f} dB")
