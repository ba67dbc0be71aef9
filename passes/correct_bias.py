"""correct-bias: take back the shift that rounding the weights adds to each output channel.

    y = conv2d(x, w8·s, b)      ->      y = conv2d(x, w8·s, b - Σ (w8·s - w) · E[x])

Rounding errors of a channel's weights do not cancel; behind a ReLU, where E[x] > 0, they move
the channel's mean. The correction needs the mean of each input channel from calibration
(Nagel et al. 2019, "Data-Free Quantization", section 4.2, with measured means).

  1. A convolution or linear layer with integer weights, whose float weights are still known.
  2. The channel means of its input were observed.

Preserved: nothing exactly; the expected value of each output channel moves back to float's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.ir import integers
from fxq.ir.facts import BIAS_CORRECTED, FLOAT_WEIGHT, info
from fxq.ir.ops import Kind, groups_of, op_of
from fxq.ir.rewriter import PassResult, Rewriter, constant_of, label
from fxq.ir.stages import Effect, Stage
from fxq.passes.base import Pass
from fxq.quantization.weights import rows


@dataclass(frozen=True)
class CorrectBias(Pass):
    """Biases absorb the mean of the weights' rounding errors."""

    name: ClassVar[str] = "correct-bias"
    before: ClassVar[Stage] = Stage.REFERENCE
    after: ClassVar[Stage] = Stage.REFERENCE
    effect: ClassVar[Effect] = Effect.QUANTIZING

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        for node in list(module.graph.nodes) if context.scheme.correct_bias else []:
            if _is_rounded_layer(node):
                _correct(node, context, rewriter)
        return rewriter.result()


def _is_rounded_layer(node: Node) -> bool:
    """Condition 1."""
    if not _is_plain_layer(node) or FLOAT_WEIGHT.of(node) is None or BIAS_CORRECTED.of(node):
        return False
    return getattr(node.args[1], "target", None) is integers.dequantize_weight


def mean_shift(node: Node, error: Tensor, context: Context) -> Tensor | None:
    """What the error of a layer's weights adds to the mean of each output, or None: condition 2."""
    value, groups = node.args[0], groups_of(node)
    assert isinstance(value, Node)
    known = context.statistics.get(info(value).value)
    means = known.channel_means() if known and _is_plain_layer(node) else None
    if means is None or len(means) != error.shape[1] * groups:
        return None  # another reader's channels are another dimension of this value
    return shift_of(error, torch.from_numpy(means), groups)


def _is_plain_layer(node: Node) -> bool:
    op = op_of(node)
    return op is not None and op.kind is Kind.MAC and not op.transposed


def shift_of(error: Tensor, means: Tensor, groups: int) -> Tensor:
    """What a weight error adds to the mean of each output channel, in float64."""
    outputs, inputs = error.shape[:2]
    per_input = error.new_empty((outputs, inputs), dtype=torch.float64)
    for part in rows(error):
        wide = error[part].double()
        per_input[part] = wide.reshape(len(wide), inputs, -1).sum(2)
    grouped = per_input.reshape(groups, outputs // groups, inputs)
    return torch.einsum("goi,gi->go", grouped, means.reshape(groups, inputs)).reshape(-1)


def _correct(node: Node, context: Context, rewriter: Rewriter) -> None:
    rounded, exact = integers.constant_value(node.args[1]), FLOAT_WEIGHT.of(node)
    assert rounded is not None and exact is not None
    # in place: the rounded weights were made for this
    shift = mean_shift(node, rounded.sub_(exact), context)
    if shift is None:
        return
    bias = constant_of(node.args[2])
    old = torch.zeros(len(shift)) if bias is None else bias
    new = rewriter.constant(f"{label(node)}.bias", (old.double() - shift).float(), node)
    node.update_arg(2, new)
    BIAS_CORRECTED.set(node, True)
    rewriter.note(node, "bias corrected")
