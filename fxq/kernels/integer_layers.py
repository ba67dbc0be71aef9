"""The constants of a layer on integers: weights, biases at the scale of its sums, multipliers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir import integers
from fxq.ir.facts import info, qparams
from fxq.ir.ops import Kind, groups_of, op_of
from fxq.ir.rewriter import constant_of
from fxq.kernels.needs import why_not_weight
from fxq.quantization.formats import SMALLEST, QParams

LARGEST_SUM = 2**31  # sums of 8-bit values are held in 32 bits; wider ones are only simulated


@dataclass(frozen=True)
class Constants:
    """`scales` are s_x·s_w in float64, one for each output channel."""

    weight: Tensor
    bias: Tensor
    scales: Tensor


def constants_of(node: Node) -> Constants | str:
    """The constants of a layer between integers, or why its sums cannot be computed on them."""
    source, weight_node = node.args[:2]
    assert isinstance(source, Node) and isinstance(weight_node, Node)
    format_ = qparams(source.args[0])  # type: ignore[arg-type]
    if weight_node.target is not integers.dequantize_weight or format_ is None:
        return "its weight is not stored as integers"
    reason = why_not_weight(weight_node) or _why_not_axis(node, weight_node)
    if reason:
        return reason
    weight = _plain_weight(weight_node)
    scales = sum_scales(node, format_.scale)
    bias = _bias(node, scales)
    if bias is None or bias.shape != scales.shape:
        return "its bias is not one number for each output channel"
    largest = bias.abs() + (format_.high - format_.low) * weights_per_output(
        node, weight).double().abs().flatten(1).sum(1)
    if format_.dtype is torch.uint8 and not bool((largest < LARGEST_SUM).all()):
        return "its sums may leave 32 bits"
    if not bool((bias.abs() < LARGEST_SUM).all()):
        return "a bias does not fit into 32 bits"
    return Constants(weight, bias.to(torch.int32), scales)


def dynamic_constants(node: Node) -> tuple[Tensor, Tensor, Tensor] | str:
    """Weight, float32 bias and float32 scales of a layer that measures its input, or why not."""
    weight_node = node.args[1]
    assert isinstance(weight_node, Node)
    if weight_node.target is not integers.dequantize_weight:
        return "its weight is not stored as integers"
    reason = why_not_weight(weight_node) or _why_not_axis(node, weight_node)
    if reason:
        return reason
    weight, scales = _plain_weight(weight_node), sum_scales(node, 1.0).float()
    bias = scales.new_zeros(scales.shape)
    if node.args[2] is not None:
        stored = integers.constant_value(node.args[2])
        if stored is None or stored.shape != scales.shape:
            return "its bias is not one number for each output channel"
        bias = stored.float()
    if not bool((255 * weight.double().abs().flatten(1).sum(1) < LARGEST_SUM).all()):
        return "its sums may leave 32 bits"
    return weight, bias, scales


def affine_constants(node: Node, source: QParams) -> Constants | str:
    """A scale and a shift per channel, as a depthwise 1x1 convolution with weights of ±127.

    The multiplier of a channel carries its scale, so that no bits are lost. A weight is smaller
    only where the shift would not fit into the sums otherwise.
    """
    scale, shift = (None if (c := constant_of(a)) is None else c.double() for a in node.args[1:3])
    channels = (info(node).shape or (0, 0))[1]
    if scale is None or shift is None or scale.shape != (channels,) or shift.shape != scale.shape:
        return "its scale and shift are not one number for each channel"
    least = torch.maximum(shift.abs() / 2**30, torch.tensor(SMALLEST, dtype=torch.float64))
    sums = torch.maximum(scale.abs() * source.scale / 127, least)
    weight = torch.round(scale * source.scale / sums).to(torch.int8)
    if not bool(torch.isfinite(sums).all()):
        return "its scale or shift is no finite number"
    return Constants(weight.reshape(-1, 1, 1, 1), torch.round(shift / sums).to(torch.int32), sums)


def sum_scales(node: Node, scale: float) -> Tensor:
    """s_x·s_w in float64 for each output channel, whose number the weight tells."""
    weight_node = node.args[1]
    assert isinstance(weight_node, Node)
    weight, scales = (constant_of(a) for a in weight_node.args[:2])
    assert weight is not None and scales is not None
    op, groups = op_of(node), groups_of(node)
    outputs = weight.shape[1] * groups if op and op.transposed else weight.shape[0]
    repeats = outputs // scales.numel() if scales.numel() else 1
    return scales.double().reshape(-1).repeat(repeats) * scale


def weights_per_output(node: Node, values: Tensor) -> Tensor:
    """One row per output channel; transposed weights are (inputs, outputs / groups, …)."""
    op = op_of(node)
    if op is None or not op.transposed:
        return values
    grouped = values.reshape(groups_of(node), -1, values.shape[1], values[0, 0].numel())
    return grouped.transpose(1, 2).flatten(0, 1).flatten(1)


def multiplier(scales: Tensor, out: QParams) -> Tensor:
    """From sums to steps of the output: rounded once, from float64."""
    return (scales / out.scale).float()


def _plain_weight(weight_node: Node) -> Tensor:
    """The integers less their zero points."""
    values, _, *zeros = (constant_of(a) for a in weight_node.args if a is not None)
    assert values is not None
    if not zeros or zeros[0] is None:
        return values
    shape = [1] * values.dim()
    if zeros[0].numel() > 1:
        shape[int(weight_node.kwargs["axis"])] = -1  # type: ignore[arg-type]
    return values.to(torch.int32) - zeros[0].to(torch.int32).reshape(shape)


def _why_not_axis(node: Node, weight_node: Node) -> str | None:
    op, scales = op_of(node), constant_of(weight_node.args[1])
    weight = constant_of(weight_node.args[0])
    assert op is not None and scales is not None and weight is not None
    if weight.dim() != (op.rank or 0) + 2 or 0 in weight.shape or weight.shape[0] % groups_of(node):
        return f"weights of {list(weight.shape)} and {groups_of(node)} groups"
    axis = int(weight_node.kwargs["axis"]) % weight.dim()  # type: ignore[arg-type]
    if scales.numel() > 1 and axis != op.channel_axis:
        return f"its scales are not those of dimension {op.channel_axis}"
    return None


def why_not_width(node: Node) -> str | None:
    """Why the weights of a layer are not what kernels of 8 bits take, or None."""
    op, weight = op_of(node), node.args[1] if len(node.args) > 1 else None
    if op is None or op.kind is not Kind.MAC or not isinstance(weight, Node):
        return None
    values, _, *zeros = map(constant_of, (*weight.args, None, None))
    plain = values is not None and values.dtype is torch.int8 and set(zeros) == {None}
    return None if plain else "the kernel takes weights of int8 without zero points"


def _bias(node: Node, scales: Tensor) -> Tensor | None:
    """In float64, as whole steps of the sums; integers at that very scale stay as they are."""
    bias_node = node.args[2]
    if bias_node is None:
        return torch.zeros_like(scales)
    if isinstance(bias_node, Node) and bias_node.target is integers.dequantize_weight:
        values, own = (constant_of(a) for a in bias_node.args[:2])
        if values is not None and own is not None and torch.equal(own, scales.float()):
            return values.double()
    bias = integers.constant_value(bias_node)
    return None if bias is None else torch.round(bias.double() / scales)


__all__ = ["Constants", "affine_constants", "constants_of", "dynamic_constants", "multiplier",
           "sum_scales", "weights_per_output", "why_not_width"]
