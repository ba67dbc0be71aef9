"""equalize-clamps: channels that a clamp cuts off reach equally far where depthwise layers read.

    y = clamp(conv2d(x, w, b), 0, 6)      ->      y' = clamp(conv2d(x, w·s, b·s), 0, 6)
    z = depthwise(y, v)                           z  = depthwise(y', v/s)

A channel that never comes near the bound is scaled up to it. Depthwise layers have a weight scale
for each channel that they read, so that the factor costs nothing on either side: it gives every
channel of y a range of its own. (Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", section 5.1.1, replaces ReLU6 by ReLU for this instead, which
moves every channel that the clamp does cut.)

  1. A layer with a batch norm makes the value, and clamps it at zero and a positive bound.
  2. Only depthwise layers with constant weights read it.

Preserved: values up to DEVIATIONS deviations from a channel's mean; those beyond saturate there,
as they would in a range that was measured for the channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.channels import DEVIATIONS, Family, Spread, activations, families, is_depthwise
from fxq.analysis.channels import spreads as spreads_of
from fxq.analysis.context import Context
from fxq.ir.ops import attribute
from fxq.ir.rewriter import PassResult, Rewriter
from fxq.ir.stages import Effect, Stage
from fxq.passes.base import Pass
from fxq.passes.equalize import LARGEST, is_open, scale


@dataclass(frozen=True)
class EqualizeClamps(Pass):
    """Each channel that a depthwise layer reads fills the range below the clamp's bound."""

    name: ClassVar[str] = "equalize-clamps"
    before: ClassVar[Stage] = Stage.FUSED
    after: ClassVar[Stage] = Stage.FUSED
    effect: ClassVar[Effect] = Effect.QUANTIZING

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter, spreads = Rewriter(module), spreads_of(module)
        for family in list(families(module)):
            if _is_bounded(family) and is_open(family, spreads):
                scale(family, _factors(family.values[0], spreads), rewriter)
        return rewriter.result()


def _is_bounded(family: Family) -> bool:
    """Conditions 1 and 2."""
    if len(family.values) > 1 or activations(family) != {"clamp"}:
        return False
    low, high = (attribute(family.values[0], name) for name in ("min", "max"))
    return low == 0 and high is not None and high > 0 and all(map(is_depthwise, family.readers))


def _factors(value: Node, spreads: Mapping[Node, Spread]) -> Tensor:
    high = float(attribute(value, "max"))
    return high / spreads[value].reach(value, DEVIATIONS).clamp(min=high / LARGEST)
