"""fold-batch-norm: a batch norm behind a convolution or linear layer becomes its weights.

    c = conv2d(x, w, b)        ->      c = conv2d(x, w·k, (b-mean)·k + beta)
    y = batch_norm(c)                  k = gamma / sqrt(var + eps), one number per channel

  1. The batch norm uses its running statistics, and they are finite.
  2. The weights are constants, so that they can be rewritten (the user's stay untouched; a
     layer that is called twice gets new weights for this call only).
  3. The channels that the norm scales are the layer's output channels (not so behind a linear
     layer on 3-dimensional input).

Computed in float64 and cast once. Preserved: outputs up to float rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir.facts import fused_info, info, set_unfolded
from fxq.ir.operator_table import each_operator
from fxq.ir.ops import Kind, Op, attribute, attributes, groups_of, op_of
from fxq.ir.origins import Norm, Unfolded
from fxq.ir.rewriter import Rewriter, constant_of, label
from fxq.ir.rules import Match, Rule
from fxq.ir.stages import Effect, Stage
from fxq.passes.base import RulePass
from fxq.quantization.weights import per_output, scaled

_LAYERS: set[str] = set()


@each_operator
def _follow(op: Op) -> None:
    if op.kind is Kind.MAC and not op.base:
        _LAYERS.add(op.name)


def scale_and_shift(norm: Node) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as y = x·scale + shift, in float64, one number per channel."""
    mean, var, weight, bias = (constant_of(a) for a in norm.args[1:5])
    assert mean is not None and var is not None
    scale = torch.rsqrt(var.double() + attribute(norm, "eps"))
    if weight is not None:
        scale = scale * weight.double()
    shift = -mean.double() * scale
    return scale, shift if bias is None else shift + bias.double()


def why_not_constant(norm: Node) -> str | None:
    """Why the batch norm is no fixed multiply and add."""
    if attribute(norm, "training"):
        return "batch norm normalizes by the batch (it is training, or keeps no statistics)"
    if constant_of(norm.args[1]) is None or constant_of(norm.args[2]) is None:
        return "batch norm keeps no running statistics"
    if not all(torch.isfinite(t).all() for t in scale_and_shift(norm)):
        return "batch norm has NaN or infinite statistics"
    return None


class NormIntoLayer(Rule):
    """norm(layer(x)) becomes layer'(x)."""

    pattern = (_LAYERS, frozenset({"batch_norm"}))
    code = "batch-norm-not-folded"

    def why_not(self, match: Match) -> str | None:
        layer, norm = match.nodes
        reason = why_not_constant(norm)  # 1
        if reason:
            return reason
        if constant_of(layer.args[1]) is None:  # 2
            return f"the weights of {label(layer)} are computed at run time"
        if layer.args[2] is not None and constant_of(layer.args[2]) is None:  # 2
            return f"the bias of {label(layer)} is computed at run time"
        op = op_of(layer)
        if op and not op.rank and len(info(layer).shape or ()) != 2:  # 3
            return "the norm's channels are not the linear layer's outputs"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        layer, norm = match.nodes
        weight, bias = constant_of(layer.args[1]), constant_of(layer.args[2])
        assert weight is not None
        scale, shift = scale_and_shift(norm)
        folded = scaled(weight, per_output(scale, _transposed(layer), groups_of(layer), weight))
        moved = (shift if bias is None else bias.double() * scale + shift).to(weight.dtype)
        op = op_of(layer)
        assert op is not None
        path = label(layer)
        operands = (layer.args[0], rewriter.constant(f"{path}.folded_weight", folded, norm),
                    rewriter.constant(f"{path}.folded_bias", moved, norm))
        new = rewriter.call(op, operands, attributes(layer), like=layer, before=norm,
                            value=fused_info(layer, norm))
        set_unfolded(new, Unfolded(weight, bias, norm_of(norm)))
        rewriter.replace(norm, new, "batch norm folded")


def _transposed(layer: Node) -> bool:
    op = op_of(layer)
    return op is not None and op.transposed


def norm_of(norm: Node) -> Norm:
    """The tensors and numbers of a batch norm node."""
    mean, var, weight, bias = (constant_of(a) for a in norm.args[1:5])
    assert mean is not None and var is not None
    return Norm(mean, var, weight, bias, attribute(norm, "eps"), attribute(norm, "momentum"))


@dataclass(frozen=True)
class FoldBatchNorm(RulePass):
    """Batch norms disappear into the layers before them."""

    name: ClassVar[str] = "fold-batch-norm"
    before: ClassVar[Stage] = Stage.NORMAL
    after: ClassVar[Stage] = Stage.NORMAL
    effect: ClassVar[Effect] = Effect.REASSOCIATING
    rules: ClassVar[tuple[Rule, ...]] = (NormIntoLayer(),)
