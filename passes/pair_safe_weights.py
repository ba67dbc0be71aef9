"""pair-safe-weights: no pair of weights may saturate a kernel that adds two products in 16 bits.

    w8 = [127, 127, ...]  s      ->      w8 = [64, 64, ...]  s' = s · (worst pair / limit)

With activations up to 255 the sum of two products fits into 16 bits iff |w0 + w1| <= 128
(255 · 128 = 32640 <= 32767).

  1. The target's row says that this node takes such a kernel, and which weights meet: on this
     machine, or, where the scheme is for any machine, on one without VNNI.
  2. Only channels with an unsafe pair change, and only as far as needed: the scale grows by the
     least factor that makes the worst pair fit, then the float weights are rounded again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.overrides import scheme_of
from fxq.analysis.saturation import channels_first, integer_weight, pairing_for
from fxq.ir import integers
from fxq.ir.facts import FLOAT_WEIGHT
from fxq.ir.ops import channel_axis
from fxq.ir.rewriter import PassResult, Rewriter, label
from fxq.ir.stages import Effect, Stage
from fxq.kernels.rows import Pairing, row_of
from fxq.passes.base import Pass
from fxq.quantization.formats import QSpec
from fxq.quantization.weights import round_weight, safe_scales, worst_pair


@dataclass(frozen=True)
class PairSafeWeights(Pass):
    """Rescale the channels whose weights could saturate, and no others."""

    name: ClassVar[str] = "pair-safe-weights"
    before: ClassVar[Stage] = Stage.REFERENCE
    after: ClassVar[Stage] = Stage.REFERENCE
    effect: ClassVar[Effect] = Effect.QUANTIZING

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        for node in list(module.graph.nodes):
            pairing = pairing_for(node, row_of(node), context) if integer_weight(node) else None
            if pairing is not None:
                _make_safe(node, pairing, rewriter, scheme_of(node, context.scheme).weight)
        return rewriter.result()


def _make_safe(node: Node, pairing: Pairing, rewriter: Rewriter, spec: QSpec) -> None:
    known, dequantized = integer_weight(node), node.args[1]
    assert known is not None and isinstance(dequantized, Node)
    values, scales = channels_first(known.values, node), known.scales
    unsafe = worst_pair(values, pairing.arrange) > pairing.limit
    if not bool(unsafe.any()):
        return
    source = channels_first(_float_weight(node, known.values, scales), node)
    new_scales = safe_scales(source, scales, pairing.limit, pairing.arrange, spec)
    axis = 0 if scales.numel() > 1 else None
    new_values = channels_first(round_weight(source, new_scales, axis, spec), node)
    path = label(node)
    operands = (rewriter.constant(f"{path}.weight_int8", new_values.contiguous(), dequantized),
                rewriter.constant(f"{path}.weight_scale", new_scales, dequantized))
    new = rewriter.call(integers.dequantize_weight, operands, dict(dequantized.kwargs),
                        like=dequantized)
    rewriter.replace(dequantized, new, f"{int(unsafe.sum())} of {len(values)} channels rescaled")


def _float_weight(node: Node, values: Tensor, scales: Tensor) -> Tensor:
    """The float weights if they are still known, else those that the integers stand for."""
    kept = FLOAT_WEIGHT.of(node)
    return kept if isinstance(kept, Tensor) else integers.dequantize_weight(
        values, scales, axis=channel_axis(node))
