"""quantize-bias: biases become 32-bit integers at the scale of the sums that they join.

    y = conv2d(x8·s_x, w8·s_w, b)      ->      y = conv2d(x8·s_x, w8·s_w, b32·(s_x·s_w))

Hardware that adds in 32-bit integers wants its bias there too (Jacob et al. 2018, "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section 2.4).

  1. The scheme asks for bias="int32", or the target's kernels add it so; and the layer computes
     on integers.
  2. Every bias fits: |b| / (s_x·s_w) < 2^31. Else the weight scales of the channels that it does
     not fit grow until it does where the target has no float bias, and the biases of the layer
     stay in float where it has.

Preserved: outputs within half a step of s_x·s_w, which is far finer than an output step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.overrides import scheme_of
from fxq.analysis.saturation import channels_first, integer_weight
from fxq.ir import integers
from fxq.ir.facts import info, is_on_integers, qparams
from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import PassResult, Rewriter, constant_of, label
from fxq.ir.stages import Effect, Stage
from fxq.kernels.integer_layers import sum_scales, weights_per_output
from fxq.passes.base import Pass

LIMIT = 2**31


@dataclass(frozen=True)
class QuantizeBias(Pass):
    """int32 biases where the scheme asks for them."""

    name: ClassVar[str] = "quantize-bias"
    before: ClassVar[Stage] = Stage.REFERENCE
    after: ClassVar[Stage] = Stage.REFERENCE
    effect: ClassVar[Effect] = Effect.QUANTIZING

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        for node in list(module.graph.nodes):
            op = op_of(node)
            if op is None or op.kind is not Kind.MAC or not is_on_integers(node):
                continue
            bias, native = constant_of(node.args[2]), context.target.bias == "int32"
            if bias is not None and native:
                _grow_scales(node, bias, rewriter)
            if bias is not None and (native or scheme_of(node, context.scheme).bias == "int32"):
                _quantize(node, bias, rewriter)
        return rewriter.result()


def bias_scale(node: Node) -> Tensor | None:
    """s_x·s_w of a layer, one per channel, in float32; None when its operands are no integers."""
    source, weight = node.args[:2]
    assert isinstance(source, Node) and isinstance(weight, Node)
    if source.target is not integers.dequantize or (
            weight.target is not integers.dequantize_weight):
        return None
    format_ = qparams(source.args[0])  # type: ignore[arg-type]
    return None if format_ is None else sum_scales(node, format_.scale).float()


def _grow_scales(node: Node, bias: Tensor, rewriter: Rewriter) -> None:
    """Coarser weights in the channels whose bias, with the products it joins, would overflow."""
    scale, known = bias_scale(node), integer_weight(node)
    if scale is None or known is None:
        return
    products = 255 * weights_per_output(node, known.values).double().abs().flatten(1).sum(1)
    room = (LIMIT - 128 - products).clamp(min=LIMIT / 2)  # 128: float rounding
    growth = (bias.double().abs() / scale.double() / room).clamp(min=1.0)
    if not bool((growth > 1).any()):
        return
    growth = growth.reshape(-1, known.scales.numel()).amax(0)
    dequantized = node.args[1]
    assert isinstance(dequantized, Node)
    scales = (known.scales.double() * growth).float()
    ratio = (1 / growth).reshape(-1, *[1] * (known.values.dim() - 1))
    first = torch.round(channels_first(known.values, node).double() * ratio).to(known.values.dtype)
    path = label(node)
    operands = (rewriter.constant(f"{path}.weight_int8", channels_first(first, node).contiguous(),
                                  dequantized),
                rewriter.constant(f"{path}.weight_scale", scales, dequantized))
    new = rewriter.call(integers.dequantize_weight, operands, dict(dequantized.kwargs),
                        like=dequantized)
    rewriter.replace(dequantized, new, f"{int((growth > 1).sum())} channels are coarser, so that "
                                       "their biases fit")


def _quantize(node: Node, bias: Tensor, rewriter: Rewriter) -> None:
    scale = bias_scale(node)
    if scale is None:
        return
    steps = torch.round(bias.double() / scale.double())
    if not bool((steps.abs() < LIMIT).all()):  # 2
        rewriter.refuse(node, "bias-overflow", "a bias does not fit into 32 bits at the scale of "
                                               "its sums; the layer's biases stay in float")
        return
    path = label(node)
    operands = (rewriter.constant(f"{path}.bias_int32", steps.to(torch.int32), node),
                rewriter.constant(f"{path}.bias_scale", scale, node))
    new = rewriter.call(integers.dequantize_weight, operands, {"axis": 0}, like=node, before=node,
                        value=info(node.args[2]))  # type: ignore[arg-type]
    node.update_arg(2, new)
    rewriter.note(node, "bias in int32")
