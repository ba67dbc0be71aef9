"""Where each node computes, and in which formats: placed again until kernels can hold them all.

Kernels multiply the scales of a layer's input and weight in float32. Measured against a float64
oracle (tests/conformance/test_small_values.py): every kernel is right down to the smallest normal
number; below it QNNPACK fails, oneDNN saturates and FBGEMM loses its biases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.float_reasons import Reason
from fxq.analysis.overrides import scheme_of
from fxq.analysis.placement import FEWEST_STEPS, Placement, place, spread_of
from fxq.analysis.value_formats import choose_qparams
from fxq.ir.facts import info, tensor_inputs
from fxq.ir.ops import Kind, base_name, channel_axis, op_name, op_of
from fxq.ir.rewriter import constant_of
from fxq.kernels.integer_layers import LARGEST_SUM, weights_per_output
from fxq.quantization.formats import SMALLEST, QParams
from fxq.quantization.weights import IntegerWeight, quantize_weight

MEASURED = "measured", "its region was measured to be slower on integers, with their casts"
CODE, WIDE = "small-values", "wide-sums"
# Steps of a value's scale in the deviation of each row that a layer norm divides by it. The noise
# of rounding is step / sqrt(12): at 16 steps it is 35 dB below the row, and a residual stream is
# rounded once for each of its sums.
ROW_STEPS = 16


@dataclass(frozen=True)
class Formats:
    """The decisions of convert: placement, the format of each value, and the integer weights."""

    placement: Placement
    values: dict[Node, QParams]
    weights: dict[Node, IntegerWeight]


def choose_formats(module: fx.GraphModule, context: Context) -> Formats:
    """Place nodes and choose formats; what a kernel could not hold is placed in float."""
    refused: dict[Node, Reason] = {
        n: MEASURED for n in module.graph.nodes if info(n).value in context.slower}
    known: dict[Node, IntegerWeight] = {}
    while True:
        placement = place(module, context, refused)
        layers = _layers(module, placement)
        known |= {n: _integer_weight(n, context) for n in layers if n not in known}
        formats = Formats(placement, choose_qparams(module, placement, context),
                          {n: known[n] for n in layers})
        found = dict((*_wide_sums(formats), *_small_values(formats),
                      *_small_products(formats, context),
                      *_fine_rows(formats, context), *_narrow_parts(formats, context)))
        if not found:
            return formats
        refused |= found


def weight_axis(node: Node, context: Context) -> int | None:
    """The dimension that has a scale for each index, or None for one scale in all."""
    name = base_name(node)
    per_channel = scheme_of(node, context.scheme).weight.per_channel and name not in (
        context.target.per_tensor_weights)
    return channel_axis(node) if per_channel else None


def _integer_weight(node: Node, context: Context) -> IntegerWeight:
    given = context.given.weights.get(info(node).value)
    if given is not None:
        return given
    weight, scheme = constant_of(node.args[1]), scheme_of(node, context.scheme)
    assert weight is not None
    return quantize_weight(weight, weight_axis(node, context), scheme.weight,
                           scheme.weight_calibrator)


def _layers(module: fx.GraphModule, placement: Placement) -> list[Node]:
    """The layers whose weights become integers."""
    weighted = placement.integer | placement.dynamic | placement.weight_only
    return [n for n in module.graph.nodes if n in weighted
            and (op := op_of(n)) is not None and op.kind is Kind.MAC]


def _wide_sums(formats: Formats) -> Iterator[tuple[Node, Reason]]:
    """Layers of 8 bits whose products alone may fill half of 32 bits; biases get the other half."""
    for node, weight in formats.weights.items():
        source = node.args[0]
        assert isinstance(source, Node)
        if node not in formats.placement.dynamic and (
                node not in formats.placement.integer
                or formats.values[source].dtype is not torch.uint8):
            continue
        sums = weights_per_output(node, weight.values).double().abs().flatten(1).sum(1)
        if sums.numel() and 255 * sums.max() >= LARGEST_SUM / 2:
            yield node, (WIDE, "it adds so many products that their sum may leave 32 bits")


def _small_values(formats: Formats) -> Iterator[tuple[Node, Reason]]:
    """Integer nodes that make or read a value whose scale would not be a normal number."""
    integer = formats.placement.integer
    for value, format_ in formats.values.items():
        if format_.scale > SMALLEST:
            continue
        reason = (CODE, "its values are so small that their scale is no normal float32")
        yield from ((n, reason) for n in (value, *value.users) if n in integer)


def _small_products(formats: Formats, context: Context) -> Iterator[tuple[Node, Reason]]:
    """Layers whose scales, alone or multiplied, are beyond what their kernels can compute with."""
    placement = formats.placement
    for node, weight in formats.weights.items():
        scales = weight.scales.double()
        if scales.numel() and scales.min() <= SMALLEST:
            yield node, (CODE, "its weights are so small that their scale is no normal float32")
        elif node in placement.dynamic:
            spread = spread_of(node.args[0], context)
            levels = scheme_of(node, context.scheme).activation
            if spread and spread < context.target.smallest_dynamic_scale * (
                    levels.high - levels.low):
                yield node, (CODE, f"its input spans {spread:.2g}, and torch's dynamic kernels "
                                   "round so small values away")
        elif node in placement.integer and not _can_multiply(node, scales, formats, context):
            yield node, (CODE, "the scales of its input and weight are so small that their "
                               "product is no normal float32")


def _fine_rows(formats: Formats, context: Context) -> Iterator[tuple[Node, Reason]]:
    """What makes or reads a value of which a layer norm enlarges rows of few steps, noise and all.

    Convolutions and linear layers round their results anyway.
    """
    integer = formats.placement.integer
    for value, format_ in formats.values.items():
        known = context.statistics.get(info(value).value)
        norms = [u for u in value.users if op_name(u) == "layer_norm"]
        if not norms or known is None or _made_by_layer(value) or (
                known.finest >= ROW_STEPS * format_.scale):
            continue
        reason = (CODE, "a layer norm enlarges its smallest rows, which span too few steps")
        yield from ((n, reason) for n in (value, *norms) if n in integer)


def _narrow_parts(formats: Formats, context: Context) -> Iterator[tuple[Node, Reason]]:
    """A cat that would round one of its parts by the range of the others.

    A layer that reads all of it rounds it so in any case.
    """
    for node in formats.placement.integer:
        if op_name(node) != "cat" or _read_by_layer(node):
            continue
        spreads = (spread_of(n, context) for n in tensor_inputs(node))
        if any(s and s < FEWEST_STEPS * formats.values[node].scale for s in spreads):
            yield node, (CODE, "one of its parts spans too few steps of the scale that all share")


def _read_by_layer(value: Node) -> bool:
    kinds = [(u, op.kind) for u in value.users if (op := op_of(u)) is not None]
    return any(k is Kind.MAC or (k is Kind.SAME and _read_by_layer(u)) for u, k in kinds)


def _made_by_layer(value: Node) -> bool:
    """A convolution or linear layer makes it, or what it is a view of."""
    while (op := op_of(value)) is not None and op.kind is Kind.SAME and (
            len(sources := tensor_inputs(value)) == 1):
        value = sources[0]
    return op is not None and op.kind is Kind.MAC


def _can_multiply(node: Node, scales: torch.Tensor, formats: Formats, context: Context) -> bool:
    source = node.args[0]
    assert isinstance(source, Node)
    products = scales * formats.values[source].scale
    if products.numel() and products.min() < SMALLEST:
        return False
    bias = constant_of(node.args[2])
    if bias is None or context.target.bias == "int32" or not bias.numel():
        return True  # integer biases get coarser weights where they do not fit
    return bool((bias.double().abs() / products).max() < torch.finfo(torch.float32).max)
