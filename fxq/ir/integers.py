"""Reference arithmetic: quantize, dequantize, and operators that act on integers as they are.

These functions are the executable meaning of a REFERENCE graph. They run on any device, on
plain integer tensors, with constant scale and zero point.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir.operator_table import each_operator
from fxq.ir.ops import Kind, Op
from fxq.ir.rewriter import constant_of, declare_pure
from fxq.quantization.formats import QParams, QSpec


@declare_pure
def quantize(input: Tensor, table: Tensor | None = None, *, scale: float, zero_point: int,
             low: int, high: int) -> Tensor:
    """Real numbers to integers: round half to even, add the zero point, saturate.

    `table`, where there is one, holds what a function and this rounding make of each integer that
    the function reads. Kernels look results up in it; here they are computed.
    """
    steps = torch.round(input / scale) + zero_point
    return steps.clamp_(low, high).to(QParams(scale, zero_point, low, high).dtype)


@declare_pure
def dequantize(input: Tensor, *, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """Integers to float32: scale * (integer - zero_point)."""
    return (input.to(torch.float32) - zero_point) * scale


@declare_pure
def dequantize_weight(weight: Tensor, scales: Tensor, zeros: Tensor | None = None, *,
                      axis: int) -> Tensor:
    """Integers to float32; `scales` (and `zeros`) have one entry, or one for each of `axis`."""
    shape = [1] * weight.dim()
    if scales.numel() > 1:
        shape[axis] = -1
    values = weight.to(torch.float32)
    if zeros is not None:
        values = values - zeros.reshape(shape)
    return values * scales.reshape(shape)


@declare_pure
def round_at_run_time(input: Tensor, *, low: int, high: int) -> Tensor:
    """Real numbers, rounded to the integers that their own range gives: dynamic quantization."""
    lowest, highest = torch.aminmax(input) if input.numel() else (input.sum(), input.sum())
    scale, zero = QSpec(low, high).scales(lowest, highest)
    return (torch.clamp(torch.round(input / scale) + zero, low, high) - zero) * scale


@declare_pure
def to_dtype(input: Tensor, *, dtype: torch.dtype) -> Tensor:
    """The same numbers in another floating type, rounded to nearest even."""
    return input.to(dtype)


def qparams_kwargs(qparams: QParams) -> dict[str, Any]:
    return {"scale": qparams.scale, "zero_point": qparams.zero_point,
            "low": qparams.low, "high": qparams.high}


def qparams_argument(node: Node) -> QParams:
    """The format that a quantize or dequantize node names."""
    return QParams(**{k: node.kwargs[k] for k in  # type: ignore[arg-type]
                      ("scale", "zero_point", "low", "high")})


def _on_integers(op: Op) -> Callable[..., Any]:
    """`op` on integers: exact for what selects values, rounded half to even for averages."""

    def steps(value: Any, zero_point: int) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(steps(v, zero_point) for v in value)
        return value.to(torch.float32) - zero_point

    def back(value: Any, zero_point: int, dtype: torch.dtype) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(back(v, zero_point, dtype) for v in value)
        limits = torch.iinfo(dtype)
        return (torch.round(value) + zero_point).clamp_(limits.min, limits.max).to(dtype)

    def call(*operands: Any, zero_point: int, **attributes: Any) -> Any:
        first = operands[0]
        while isinstance(first, list | tuple):
            first = first[0]
        result = op.call(*(steps(o, zero_point) for o in operands), **attributes)
        return back(result, zero_point, first.dtype)

    call.__name__ = call.__qualname__ = f"{op.name}_on_integers"
    return declare_pure(call)


@declare_pure
def clamp_on_integers(input: Tensor, *, low: int, high: int) -> Tensor:
    """A clamp whose bounds are integers of the value's own format."""
    return input.clamp(low, high)


INTEGER_OPS: dict[str, Callable[..., Any]] = {}
_FLOAT_OP: dict[Any, Op] = {}
_DOMAIN: set[Any] = {clamp_on_integers, quantize, dequantize, dequantize_weight, round_at_run_time}


@each_operator
def _follow(op: Op) -> None:
    """What keeps scale and zero point also has a form on integers."""
    if op.kind is not Kind.SAME or op.name == "clamp":
        return
    call = INTEGER_OPS[op.name] = _on_integers(op)
    _FLOAT_OP[call] = op
    _DOMAIN.add(call)
    setattr(sys.modules[__name__], call.__name__, call)


def constant_value(node: Any) -> Tensor | None:
    """The tensor behind a constant, or behind integers that are dequantized from constants."""
    if isinstance(node, Node) and node.target is dequantize_weight:
        operands = [constant_of(a) for a in node.args]
        return None if None in operands else dequantize_weight(*operands, **node.kwargs)
    return constant_of(node)


def is_integer_node(node: Node) -> bool:
    """The node crosses into, out of, or stays in the integer domain."""
    return node.op == "call_function" and node.target in _DOMAIN


def is_integer_operator(node: Node) -> bool:
    """It reads and gives integers of one format: no quantize or dequantize."""
    return node.target is clamp_on_integers or float_op_of(node) is not None


def float_op_of(node: Node) -> Op | None:
    """The float operator that an integer operator stands for."""
    return _FLOAT_OP.get(node.target) if node.op == "call_function" else None
