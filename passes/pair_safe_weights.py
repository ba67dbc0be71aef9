"""pair-safe-weights: no pair of weights may saturate a kernel that adds two products in 16 bits.

    w8 = [127, 127, ...]  s      ->      w8 = [64, 64, ...]  s' = s · (worst pair / limit)

With activations up to 255 the sum of two products fits into 16 bits iff |w0 + w1| <= 128
(255 · 128 = 32640 <= 32767).

  1. The target's row says that this node takes such a kernel, and which taps meet.
  2. Only channels with an unsafe pair change, and only as far as needed: the scale grows by the
     least factor that makes the worst pair fit, then the float weights are rounded again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, fx
from torch.fx import Node

from fxq import integers
from fxq.context import Context
from fxq.info import is_on_integers
from fxq.ops import op_of
from fxq.overrides import scheme_of
from fxq.passes.base import Effect, Pass
from fxq.qspec import QSpec
from fxq.rewrite import PassResult, Rewriter, constant_of, label
from fxq.stage import Stage
from fxq.targets.base import Pairing
from fxq.weights import round_weight, safe_scales, worst_pair


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
            pairing = pairing_of(node, context) if _has_integer_weight(node) else None
            if pairing is not None:
                _make_safe(node, pairing, rewriter, scheme_of(node, context.scheme).weight)
        return rewriter.result()


def pairing_of(node: Node, context: Context) -> Pairing | None:
    """Condition 1: which taps meet in 16 bits, for a layer of 8-bit integers."""
    kernel = context.target.kernel_for(node) if op_of(node) else None
    spec = scheme_of(node, context.scheme).weight
    if kernel is None or kernel.pairing is None or spec.bits > 8 or not spec.symmetric:
        return None  # wider formats are simulated: there is no such kernel
    return kernel.pairing if context.scheme.pair_safe and kernel.pairing.when(node) else None


def _has_integer_weight(node: Node) -> bool:
    weight = node.args[1] if op_of(node) and len(node.args) > 1 else None
    return is_on_integers(node) and getattr(weight, "target", None) is integers.dequantize_weight


def _make_safe(node: Node, pairing: Pairing, rewriter: Rewriter, spec: QSpec) -> None:
    dequantized = node.args[1]
    assert isinstance(dequantized, Node)
    values, scales = (constant_of(a) for a in dequantized.args)
    assert values is not None and scales is not None
    pairs = pairing.taps(values[0].numel())
    unsafe = worst_pair(values, pairs) > pairing.limit
    if not bool(unsafe.any()):
        return
    source = _float_weight(node, values, scales)
    new_scales = safe_scales(source, scales, pairing.limit, pairs, spec)
    new_values = round_weight(source, new_scales, 0, spec)
    path = label(node)
    operands = (rewriter.constant(f"{path}.weight_int8", new_values, dequantized),
                rewriter.constant(f"{path}.weight_scale", new_scales, dequantized))
    new = rewriter.call(integers.dequantize_weight, operands, dict(dequantized.kwargs),
                        like=dequantized)
    rewriter.replace(dequantized, new, f"{int(unsafe.sum())} of {len(values)} channels rescaled")


def _float_weight(node: Node, values: Tensor, scales: Tensor) -> Tensor:
    """The float weights if they are still known, else those that the integers stand for."""
    kept = node.meta.get("fxq.float_weight")
    return kept if isinstance(kept, Tensor) else integers.dequantize_weight(values, scales, axis=0)

