"""How the arguments of each form of kernel are laid out, and how weights are packed for it."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from fxq.errors import VerificationError
from fxq.ir import integers
from fxq.ir.facts import PACKED, PACKED_BYTES, info, set_info
from fxq.ir.ops import attribute, attributes, groups_of, op_of
from fxq.ir.rewriter import Rewriter, constant_of, label
from fxq.kernels import calls
from fxq.kernels.needs import why_not_packed
from fxq.kernels.rows import row_of
from fxq.quantization.formats import QParams

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def integer_behind(node: Any) -> Any:
    """The integer value behind a dequantize."""
    assert isinstance(node, Node)
    return node.args[0]


def _weighted(node: Node, call: calls.Call, out: QParams, rewriter: Rewriter,
              engine: str) -> Arguments:
    packed = packed_weight(node, call, rewriter, engine)
    return (integer_behind(node.args[0]), packed, out.scale, out.zero_point), {}


def _adding(node: Node, call: calls.Call, out: QParams, rewriter: Rewriter,
            engine: str) -> Arguments:
    """The sum comes second, and its memory takes the result."""
    packed = packed_weight(node, call, rewriter, engine)
    source, other = (integer_behind(node.args[i]) for i in (0, 3))
    return (source, other, packed, out.scale, out.zero_point), {}


def packed_weight(node: Node, call: calls.Call, rewriter: Rewriter, engine: str) -> Node:
    """The weight and bias of a layer, packed for an engine as the layer's row says."""
    weight = node.args[1]
    assert isinstance(weight, Node)
    bias = integers.constant_value(node.args[2])
    reason = why_not_packed(node, call, bias)
    if reason:
        raise VerificationError(f"{label(node)} cannot be packed for {engine}", why=reason)
    values, scales = (constant_of(a) for a in weight.args[:2])
    assert values is not None and scales is not None
    axis: Any = weight.kwargs["axis"]
    geometry, row = _geometry(node, values), row_of(node)
    if row is not None and row.expand_groups:
        values, geometry = _one_group(values, geometry[-1]), (*geometry[:-1], 1)
    packed = calls.prepack(call, engine, values, scales, axis, bias, geometry)
    name = rewriter.packed(f"{label(node)}.packed", packed, node)
    PACKED.set(name, f"s8{list(values.shape)}".replace(" ", "") + (
        "/ch" if scales.numel() > 1 else ""))
    stored = [constant_of(weight.args[0]), scales, bias]
    PACKED_BYTES.set(name, sum(t.numel() * t.element_size() for t in stored if t is not None))
    set_info(name, info(weight))
    return name


def _one_group(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """The same convolution without groups: zeros where a channel is not read."""
    outputs, inputs = weight.shape[:2]
    wide = weight.new_zeros(groups, outputs // groups, groups, inputs, *weight.shape[2:])
    each = torch.arange(groups)
    wide[each, :, each] = weight.reshape(groups, -1, *weight.shape[1:])
    return wide.reshape(outputs, groups * inputs, *weight.shape[2:])


def _geometry(node: Node, values: torch.Tensor) -> tuple[Any, ...]:
    """What the prepack function of this operator wants after weight and bias."""
    op = op_of(node)
    if op is None or not op.rank:  # a linear layer
        return ()
    rank = values.dim() - 2
    wide = {k: list(v) if isinstance(v, tuple) else [v] * rank
            for k, v in attributes(node).items() if k in (
                "stride", "padding", "output_padding", "dilation")}
    order = ("stride", "padding", "output_padding", "dilation")
    return (*(wide[k] for k in order if k in wide), groups_of(node))


def _binary(node: Node, call: calls.Call, out: QParams, *_: Any) -> Arguments:
    a, b = (integer_behind(n) for n in node.args)
    if (info(a).shape or ())[2:] == (1, 1) and info(a).shape != info(b).shape:
        a, b = b, a  # the kernels keep channels_last when the large operand comes first
    return (a, b, out.scale, out.zero_point), {}


def _cat(node: Node, call: calls.Call, out: QParams, *_: Any) -> Arguments:
    parts = [integer_behind(n) for n in node.args[0]]  # type: ignore[union-attr]
    return (parts, attribute(node, "dim"), out.scale, out.zero_point), {}


def _affine(node: Node, call: calls.Call, out: QParams, rewriter: Rewriter,
            engine: str) -> Arguments:
    scale = constant_of(node.args[1])
    assert scale is not None
    path = label(node)
    mean = rewriter.constant(f"{path}.zero", torch.zeros_like(scale), node)
    var = rewriter.constant(f"{path}.one", torch.ones_like(scale), node)
    args = (integer_behind(node.args[0]), node.args[1], node.args[2], mean, var, 0.0)
    return (*args, out.scale, out.zero_point), {}


def _layer_norm(node: Node, call: calls.Call, out: QParams, *_: Any) -> Arguments:
    shape, eps = attribute(node, "normalized_shape"), attribute(node, "eps")
    return (integer_behind(node.args[0]), list(shape), node.args[1], node.args[2], eps,
            out.scale, out.zero_point), {}


def _scaled(node: Node, call: calls.Call, out: QParams, *_: Any) -> Arguments:
    return (integer_behind(node.args[0]), out.scale, out.zero_point), {}


def _fixed(node: Node, call: calls.Call, out: QParams, *_: Any) -> Arguments:
    return (integer_behind(node.args[0]),), {}


def _leaky_relu(node: Node, call: calls.Call, out: QParams, *_: Any) -> Arguments:
    slope = attribute(node, "negative_slope")
    return (integer_behind(node.args[0]), slope, False, out.scale, out.zero_point), {}


def _elu(node: Node, call: calls.Call, out: QParams, *_: Any) -> Arguments:
    return (integer_behind(node.args[0]), out.scale, out.zero_point, attribute(node, "alpha")), {}


ARGUMENTS = {"weighted": _weighted, "adding": _adding, "binary": _binary, "cat": _cat,
             "affine": _affine, "layer_norm": _layer_norm, "scaled": _scaled, "fixed": _fixed,
             "leaky_relu": _leaky_relu, "elu": _elu}
