"""Learned rounding: each weight goes up or down so that the output of its block is what it was.

    w8 = clamp(floor(w / s) + h(v))      h(v) = clamp(1.2 · sigmoid(v) - 0.1, 0, 1)

AdaRound (Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization",
section 3.3) learns v by the error of a layer's output, and a penalty drives every h to 0 or 1.
As in BRECQ (Li et al. 2021) the output is that of a whole residual block; as in QDrop (Wei et al.
2022, "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization")
half of all activations, drawn anew in each step, are left unrounded. Biases are learned along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from fxq.analysis.overrides import scheme_of
from fxq.ir.facts import info
from fxq.ir.ops import channel_axis
from fxq.quantization.formats import SMALLEST, QSpec
from fxq.quantization.weights import IntegerWeight
from fxq.reconstruction.simulation import Round, Simulation, Values
from fxq.reconstruction.work import Work, error_of

WIDEST = 8  # bits: finer weights lose nothing by rounding to nearest
RATE, BIAS_RATE = 0.1, 1e-3  # Adam's, of v, and of a bias in deviations of the outputs
WARM_UP = 0.2  # of the steps, without penalty
PENALTY = 10.0  # in parts of the error of rounding to nearest
SHARP, SMOOTH = 8.0, 2.0  # the penalty's exponent at first, and at last
DROPPED = 0.5  # of the activations


@dataclass
class SoftWeight:
    """A layer's weights between their two neighbours, and its bias."""

    layer: Node
    base: Tensor  # floor(w / s) + zero point
    known: IntegerWeight
    spec: QSpec
    v: Tensor
    bias: Tensor

    def up(self) -> Tensor:
        """h(v): how far each weight is on its way to the upper neighbour."""
        return (torch.sigmoid(self.v) * 1.2 - 0.1).clamp(0, 1)

    def weight(self, up: Tensor) -> Tensor:
        """The real weights; gradients stop where the integers saturate."""
        steps = (self.base + up).clamp(self.spec.low, self.spec.high)
        if self.known.zeros is not None:
            steps = steps - along(self.layer, self.known.zeros)
        return steps * along(self.layer, self.known.scales)

    def integers(self) -> IntegerWeight:
        """Every weight at the neighbour that it is closer to."""
        steps = (self.base + (self.v.detach() >= 0)).clamp(self.spec.low, self.spec.high)
        return IntegerWeight(steps.to(self.spec.dtype), self.known.scales, self.known.zeros)


def along(layer: Node, x: Tensor) -> Tensor:
    """One number, or one per output channel, in the shape of the layer's weight."""
    shape = [1] * len(info(layer.args[1]).shape or ())  # type: ignore[arg-type]
    if x.numel() > 1:
        shape[channel_axis(layer)] = -1
    return x.reshape(shape)


def soften(simulation: Simulation, layer: Node) -> SoftWeight:
    """Start at the float weights, at the scales that were chosen for them."""
    known, weight = simulation.weights[layer], simulation.float_weight(layer).detach()
    spec = scheme_of(layer, simulation.context.scheme).weight
    steps = weight / along(layer, known.scales)
    base = steps.floor()
    h = (steps - base + 0.1) / 1.2
    if known.zeros is not None:
        base = base + along(layer, known.zeros)
    return SoftWeight(layer, base, known, spec, torch.log(h / (1 - h)),
                      simulation.bias(layer).clone())


def learn_rounding(work: Work) -> None:
    """Learn the integers and biases of a block's layers, and decide them."""
    layers = [n for n in work.block.layers if n in work.simulation.weights and scheme_of(
        n, work.simulation.context.scheme).weight.bits <= WIDEST]
    if not layers:
        return
    softs = [soften(work.simulation, n) for n in layers]
    nearest = work.error()
    with torch.enable_grad():
        _learn(softs, work, nearest)
    if work.error({s.layer: (s.weight(s.v >= 0), s.bias) for s in softs}) >= nearest:
        return
    for soft in softs:
        work.simulation.set_weight(soft.layer, soft.integers())
        work.simulation.set_bias(soft.layer, soft.bias.detach())


def _learn(softs: Sequence[SoftWeight], work: Work, nearest: float) -> None:
    steps, deviation = work.learning.iterations, _deviation(work.targets[0])
    for soft in softs:
        soft.v.requires_grad_()
        soft.bias.requires_grad_()
    optimizer = torch.optim.Adam([{"params": [s.v for s in softs]},
                                  {"params": [s.bias for s in softs]}], lr=RATE)
    count = sum(s.v.numel() for s in softs)
    for step, (exact, rounded, targets) in enumerate(work.samples(steps)):
        torch.manual_seed(hash((work.learning.seed, work.index, step)) % 2**31)
        ups = [s.up() for s in softs]
        weights = {s.layer: (s.weight(up), s.bias) for s, up in zip(softs, ups, strict=True)}
        outputs = work.simulation.rounded(work.block, _mixed(exact, rounded),
                                          _dropping(work.simulation), weights)
        loss = error_of(outputs, targets) / max(nearest, SMALLEST)
        if step >= WARM_UP * steps:
            left = 1 - (step / steps - WARM_UP) / (1 - WARM_UP)
            power = SMOOTH + (SHARP - SMOOTH) * left
            loss = loss + PENALTY / count * sum(
                (1 - (2 * up - 1).abs() ** power).sum() for up in ups)
        optimizer.param_groups[1]["lr"] = BIAS_RATE * deviation * (1 - step / steps)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()


def _deviation(targets: Values) -> float:
    """The largest deviation of a block's outputs."""
    return max((float(t.std()) for t in targets.values()
                if isinstance(t, Tensor) and t.is_floating_point() and t.numel() > 1), default=1.0)


def _mixed(exact: Values, rounded: Values) -> Values:
    """Inputs as compiled, but for the share that is dropped, which is as it was in float."""
    return {n: torch.where(torch.rand_like(x) < DROPPED, exact[n], x)
            if isinstance(x, Tensor) and x.is_floating_point() else x
            for n, x in rounded.items()}


def _dropping(simulation: Simulation) -> Round:
    """Rounds a value but for the share that is dropped."""
    def round_value(node: Node, x: Tensor) -> Tensor:
        return torch.where(torch.rand_like(x) < DROPPED, x, simulation.round_value(node, x))

    return round_value
