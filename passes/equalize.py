"""equalize: scale the channels of a value so that all of them reach equally far.

    y = conv2d(x, w, b)            ->      y' = conv2d(x, w·s, b·s)
    z = conv2d(y, v)                       z  = conv2d(y', v/s)

One scale serves all channels of a value, and the widest of them sets it: the narrow ones get few
of its steps. Weights have a scale for each output channel, so that the factor costs them nothing
where y is made. How far a channel reaches is known without data, from the batch norm before it
(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
sections 4.1 and 4.2; the factors here equalize values, not weights).

  1. Layers with batch norms make the value: their mean and deviation tell each channel's reach.
  2. Only layers with constant weights read it. Sums and pools on the way have the same factors on
     all their operands, so that whole residual streams are scaled.
  3. The value is linear, or passed a ReLU and is read by depthwise layers only: the channels of
     a dense layer's weights would differ more than before, for little.

Preserved: outputs up to float rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.channels import DEVIATIONS, Family, Spread, activations, families, is_depthwise
from fxq.analysis.channels import spreads as spreads_of
from fxq.analysis.context import Context
from fxq.ir.facts import EQUALIZED, set_unfolded, unfolded
from fxq.ir.ops import groups_of, op_of
from fxq.ir.rewriter import PassResult, Rewriter, constant_of, label
from fxq.ir.stages import Effect, Stage
from fxq.passes.base import Pass
from fxq.quantization.weights import per_output, scaled

LARGEST = 64.0  # a channel that reaches less far is all but dead; its noise is not worth enlarging


@dataclass(frozen=True)
class Equalize(Pass):
    """The channels of linear streams, and of what depthwise layers read, reach equally far."""

    name: ClassVar[str] = "equalize"
    before: ClassVar[Stage] = Stage.FUSED
    after: ClassVar[Stage] = Stage.FUSED
    effect: ClassVar[Effect] = Effect.REASSOCIATING

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter, spreads = Rewriter(module), spreads_of(module)
        for family in list(families(module)):
            if _is_free(family) and is_open(family, spreads):
                scale(family, _factors(family, spreads), rewriter)
        return rewriter.result()


def is_open(family: Family, spreads: Mapping[Node, Spread]) -> bool:
    """Condition 1, and no pass has scaled it before."""
    return all(n in spreads for n in family.values) and not any(map(EQUALIZED.of, family.makers))


def _is_free(family: Family) -> bool:
    """Condition 3."""
    found = activations(family)
    return found == {""} or (found <= {"", "relu"} and all(map(is_depthwise, family.readers)))


def _factors(family: Family, spreads: Mapping[Node, Spread]) -> Tensor:
    """One over the reach of each channel, in parts of the widest one's, in its worst value."""
    reaches = [spreads[n].reach(n, DEVIATIONS) for n in family.values]
    parts = torch.stack([r / r.max().clamp(min=torch.finfo(r.dtype).tiny) for r in reaches])
    return 1 / parts.amax(0).clamp(min=1 / LARGEST)


def scale(family: Family, factors: Tensor, rewriter: Rewriter) -> None:
    """Multiply the channels of all values of a family, and undo it in their readers."""
    for layer in family.makers:
        _put(layer, 1, per_output(factors, _transposed(layer), groups_of(layer), _weight(layer)),
             rewriter)
        if constant_of(layer.args[2]) is not None:
            _put(layer, 2, factors, rewriter)
        _follow(layer, factors)
        EQUALIZED.set(layer, True)
        rewriter.note(layer, "channels equalized")
    for layer in family.readers:
        # one factor for each input channel: the shape that transposed layers have for outputs
        _put(layer, 1, per_output(1 / factors, True, groups_of(layer), _weight(layer)), rewriter)


def _put(layer: Node, place: int, factor: Tensor, rewriter: Rewriter) -> None:
    old = constant_of(layer.args[place])
    assert old is not None
    name = f"{label(layer)}.equalized_{'weight' if place == 1 else 'bias'}"
    layer.update_arg(place, rewriter.constant(name, scaled(old, factor), layer))


def _follow(layer: Node, factors: Tensor) -> None:
    """The batch norm that the layer took has the factors too: later passes read its spread."""
    origin = unfolded(layer)
    assert origin is not None
    norm = origin.norm
    weight = torch.ones_like(norm.mean) if norm.weight is None else norm.weight.detach()
    bias = None if norm.bias is None else (norm.bias.detach() * factors).to(weight.dtype)
    norm = replace(norm, weight=(weight * factors).to(weight.dtype), bias=bias)
    set_unfolded(layer, replace(origin, norm=norm))


def _weight(layer: Node) -> Tensor:
    weight = constant_of(layer.args[1])
    assert weight is not None
    return weight


def _transposed(layer: Node) -> bool:
    op = op_of(layer)
    return op is not None and op.transposed
