"""Empirical bias correction: each layer's output channels get the mean that they have in float.

    b' = b - E[(w8·x8 + b) - (w·x + b_float)]       over images and places, before the activation

The analytic correction (`correct-bias`) knows the errors of the weights alone; measured means also
take back what the rounded and saturated inputs of all layers before have added (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", appendix D).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir.ops import attribute, base_of, op_of
from fxq.ir.rewriter import constant_of
from fxq.reconstruction.simulation import Simulation
from fxq.reconstruction.work import Work

BATCHES = 4  # more of them hardly move a mean


def correct_biases(work: Work) -> None:
    """Correct a block's layers in order: each is measured behind the corrected ones before it."""
    for layer in work.block.layers:
        if layer in work.simulation.weights and layer in work.simulation.placement.integer:
            _correct(layer, work)


def _correct(layer: Node, work: Work) -> None:
    simulation, source = work.simulation, layer.args[0]
    assert isinstance(source, Node)
    ends = work.block.nodes.index(layer)
    before = replace(work.block, nodes=work.block.nodes[:ends], outputs=(source,))
    error, count = torch.zeros(()), torch.zeros(())
    for exact, rounded in list(zip(work.exact, work.rounded, strict=True))[:BATCHES]:
        x = simulation.exact(before, exact)[source]
        x8 = simulation.round_value(source, simulation.rounded(before, rounded)[source])
        sums = _sums(layer, x, x8, simulation)
        error, count = error + sums[0], count + sums[1]
    shift = error / count.clamp(min=1)
    simulation.set_bias(layer, (simulation.bias(layer).double() - shift).float())


def _sums(layer: Node, x: Tensor, x8: Tensor, simulation: Simulation) -> tuple[Tensor, Tensor]:
    """The errors of each output channel where its activation lets them pass, and their number."""
    op = op_of(layer)
    assert op is not None
    base, activation = base_of(op)
    options = {name: attribute(layer, name) for name in base.attributes}
    exact = base.call(x, simulation.float_weight(layer), constant_of(layer.args[2]), **options)
    rounded = base.call(x8, simulation.multiplied(layer), simulation.biases[layer], **options)
    passed = torch.ones_like(rounded)
    if activation is not None:
        own = {name: attribute(layer, name) for name in activation.attributes}
        exact, shown = activation.call(exact, **own), activation.call(rounded, **own)
        passed, rounded = (shown == rounded).float(), shown
    error = ((rounded - exact) * passed).double()
    axis = 1 if base.rank else error.dim() - 1
    others = [d for d in range(error.dim()) if d != axis]
    return error.sum(others), passed.double().sum(others)
