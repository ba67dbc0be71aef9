"""What a kernel needs of the integers that it is given, checked before any native code sees them.

Prepack functions and kernels read scales through raw pointers and trust what they are told: a file
may say anything. Rows of `fxq.kernels` say what a layer's kernel takes, a target which integers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir.integers import qparams_argument
from fxq.ir.ops import groups_of
from fxq.ir.rewriter import constant_of
from fxq.kernels.calls import Call
from fxq.quantization.formats import QParams, QSpec

_WEIGHTS = (torch.uint8, torch.int8, torch.int16, torch.int32)
_POINTS = (*_WEIGHTS, torch.int64)


def why_not_weight(node: Node) -> str | None:
    """Why a `dequantize_weight` is none, on any target: one scale, or one per channel."""
    stored = [constant_of(a) for a in node.args if a is not None]
    if len(stored) < 2 or any(t is None for t in stored):
        return "weights, scales and zero points are stored tensors"
    weight, scales, *zeros = (t for t in stored if t is not None)
    axis: Any = node.kwargs["axis"]
    if weight.dtype not in _WEIGHTS or any(z.dtype not in _POINTS for z in zeros):
        return "weights and zero points are integers"
    if not -weight.dim() <= axis < max(weight.dim(), 1):
        return f"weights of {weight.dim()} dimensions have no axis {axis}"
    channels = weight.shape[axis] if weight.dim() else 1
    if any(t.dim() > 1 or t.numel() not in (1, channels) for t in (scales, *zeros)):
        return f"{scales.numel()} scales for {channels} channels"
    return why_not_scales(scales) or next(filter(None, (_why_not_points(z) for z in zeros)), None)


def why_not_scales(scales: Tensor) -> str | None:
    """Scales are float32, finite and positive."""
    if scales.dtype != torch.float32:
        return f"scales are {scales.dtype}, not float32"
    if not scales.numel():
        return None
    low, high = torch.aminmax(scales)  # both are NaN when one of them is
    if not 0 < low.item() <= high.item() < torch.inf:
        return "a scale is no positive finite number"
    return None


def _why_not_points(zeros: Tensor) -> str | None:
    return None if bool((zeros.abs() < 2**24).all()) else "a zero point is no integer of float32"


def why_not_format(format_: QParams, spec: QSpec) -> str | None:
    """Why a kernel cannot hold a value in this format: its integers are the target's."""
    if spec.low <= format_.low <= format_.zero_point <= format_.high <= spec.high:
        return None
    return (f"integers of [{format_.low}, {format_.high}] with zero point {format_.zero_point}; "
            f"the kernel's are [{spec.low}, {spec.high}]")


def why_not_table(quantize: Node) -> str | None:
    """Why the table of a quantize is none: 256 stored integers of the format that it makes."""
    table, format_ = constant_of(quantize.args[1]), qparams_argument(quantize)
    if table is None or table.dtype is not torch.uint8 or tuple(table.shape) != (256,):
        return "a table is 256 stored integers of uint8"
    low, high = (int(v) for v in torch.aminmax(table))
    if not format_.low <= low <= high <= format_.high:
        return f"a table holds [{low}, {high}], its values [{format_.low}, {format_.high}]"
    return None


def why_not_packed(node: Node, call: Call, bias: Tensor | None) -> str | None:
    """Why the weights of a layer cannot be packed for a kernel, or None."""
    weight_node = node.args[1]
    assert isinstance(weight_node, Node)
    reason = why_not_weight(weight_node)
    if reason:
        return reason
    weight, scales = (constant_of(a) for a in weight_node.args[:2])
    assert weight is not None and scales is not None
    axis: Any = weight_node.kwargs["axis"]
    if len([a for a in weight_node.args if a is not None]) > 2:
        return "the kernel's weights have no zero points"
    if weight.dtype != torch.int8 or weight.dim() != call.rank:
        return f"the kernel takes int8 weights of {call.rank} dimensions"
    if scales.numel() > 1 and axis % call.rank != call.axis:
        return f"the kernel's scales are those of dimension {call.axis}"
    groups = groups_of(node)
    outputs = weight.shape[call.axis] * (groups if call.axis else 1)
    if 0 in weight.shape or weight.shape[0] % groups:
        return f"weights of {list(weight.shape)} and {groups} groups"
    if bias is not None and (bias.dtype != torch.float32 or tuple(bias.shape) != (outputs,)):
        return f"the bias is not {outputs} numbers of float32"
    return None


__all__ = ["why_not_format", "why_not_packed", "why_not_scales", "why_not_table",
           "why_not_weight"]
