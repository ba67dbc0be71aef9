"""How the arguments of each call of `fxq.ir.arithmetic` follow from a node of REFERENCE.

A form gives keyword arguments of plain numbers, so that a graph says all of its arithmetic; it
raises Unfit for a node whose numbers it cannot hold, which then computes in float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir import arithmetic, integers
from fxq.ir.facts import info
from fxq.ir.ops import attribute, attributes, op_of
from fxq.ir.rewriter import Rewriter, label
from fxq.kernels.integer_layers import (
    Constants,
    affine_constants,
    constants_of,
    dynamic_constants,
    multiplier,
)
from fxq.quantization.formats import QParams

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Unfit(Exception):
    """The integers of a node do not fit its call; the text is the reason."""


def format_behind(node: Any) -> QParams:
    """The format of the integers behind a dequantize."""
    if not isinstance(node, Node) or node.target is not integers.dequantize:
        raise Unfit("an operand is not on integers")
    return integers.qparams_argument(node)


def result(out: QParams) -> dict[str, Any]:
    """Zero point, bounds and type of a result."""
    kwargs = {"zero": out.zero_point, "low": out.low, "high": out.high}
    return kwargs if out.dtype is torch.uint8 else kwargs | {"dtype": out.dtype}


def _result(node: Node, out: QParams) -> dict[str, Any]:
    """An activation that an operator has absorbed is a bound of its result."""
    op, kwargs = op_of(node), result(out)
    if op and op.rectified:
        kwargs["low"] = max(out.low, out.zero_point)
    if op and op.activation == "clamp":
        bounds = (attribute(node, "min"), attribute(node, "max"))
        kwargs |= {key: out.integer(bound) for key, bound in
                   zip(("low", "high"), bounds, strict=True) if bound is not None}
    return kwargs


def ratio(a: QParams, b: QParams) -> float:
    """One scale over another, as the float32 that values are multiplied with."""
    return _float32(float(a.scale) / float(b.scale))


def _float32(value: float) -> float:
    rounded = float(torch.tensor(value, dtype=torch.float64).float())
    if not math.isfinite(rounded):
        raise Unfit("the ratio of two scales is no finite float32")
    return rounded


def _geometry(node: Node, names: tuple[str, ...]) -> dict[str, Any]:
    """The attributes of a layer or pool, one number for each of its dimensions."""
    op = op_of(node)
    assert op is not None
    values = attributes(node)
    wide = {k: tuple(v) if isinstance(v, list | tuple) else (v,) * op.rank
            for k, v in values.items() if k in names and v is not None}
    return {k: wide.get(k, values[k]) for k in values if k in (*names, "groups")}


_STEPS = ("stride", "padding", "output_padding", "dilation")


def _weighted(node: Node, found: Constants | str, scaled: Callable[[Tensor], Tensor],
              rewriter: Rewriter) -> list[Node]:
    """Input, weight, bias, and what sums are multiplied with."""
    if isinstance(found, str):
        raise Unfit(found)
    path, source, multipliers = label(node), node.args[0], scaled(found.scales)
    if not bool(torch.isfinite(multipliers).all()):
        raise Unfit("a multiplier of its sums is no finite float32")
    assert isinstance(source, Node) and isinstance(source.args[0], Node)
    tensors = {"weight_integers": found.weight, "bias_integers": found.bias,
               "multiplier": multipliers}
    return [source.args[0], *(rewriter.constant(f"{path}.{name}", tensor, node)
                              for name, tensor in tensors.items())]


def _layer(node: Node, out: QParams, rewriter: Rewriter) -> Arguments:
    op = op_of(node)
    zero_in = format_behind(node.args[0]).zero_point
    args = _weighted(node, constants_of(node), lambda scales: multiplier(scales, out), rewriter)
    geometry = _geometry(node, _STEPS) if op and op.rank else {}
    return tuple(args), geometry | {"zero_in": zero_in} | _result(node, out)


def _layer_add(node: Node, out: QParams, rewriter: Rewriter) -> Arguments:
    other, (args, kwargs) = format_behind(node.args[3]), _layer(node, out, rewriter)
    joins = {"zero_other": other.zero_point, "other_multiplier": ratio(other, out)}
    return (*args, node.args[3].args[0]), kwargs | joins  # type: ignore[union-attr]


def _affine(node: Node, out: QParams, rewriter: Rewriter) -> Arguments:
    """A depthwise convolution of one pixel."""
    source, channels = format_behind(node.args[0]), (info(node).shape or (0, 0))[1]
    found = affine_constants(node, source)
    args = _weighted(node, found, lambda scales: multiplier(scales, out), rewriter)
    ones = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": channels}
    return tuple(args), ones | {"zero_in": source.zero_point} | _result(node, out)


def _layer_float(node: Node, rewriter: Rewriter) -> Arguments:
    """A linear layer whose result nobody reads as integers."""
    op, zero_in = op_of(node), format_behind(node.args[0]).zero_point
    args = _weighted(node, constants_of(node), lambda scales: scales.float(), rewriter)
    return tuple(args), {"zero_in": zero_in, "relu": bool(op and op.rectified)}


def _layer_dynamic(node: Node, rewriter: Rewriter) -> Arguments:
    """A layer that rounds its input by the range that it has at each call."""
    op, rounded, found = op_of(node), node.args[0], dynamic_constants(node)
    if isinstance(found, str):
        raise Unfit(found)
    assert isinstance(rounded, Node)
    names = ("weight_integers", "bias", "weight_scales")
    constants = [rewriter.constant(f"{label(node)}.{name}", tensor, node)
                 for name, tensor in zip(names, found, strict=True)]
    return (rounded.args[0], *constants), {**rounded.kwargs, "relu": bool(op and op.rectified)}


def _sum(node: Node, out: QParams, _: Rewriter) -> Arguments:
    a, b = map(format_behind, node.args)
    kwargs = {"zero_a": a.zero_point, "zero_b": b.zero_point,
              "multiplier_a": ratio(a, out), "multiplier_b": ratio(b, out)}
    return _behind(node), kwargs | _result(node, out)


def _product(node: Node, out: QParams, _: Rewriter) -> Arguments:
    """The larger operand comes first."""
    args, (a, b) = _behind(node), map(format_behind, node.args)
    if info(args[0]).shape != info(node).shape:
        args, (a, b) = args[::-1], (b, a)
    factor = _float32(float(a.scale) * float(b.scale) / float(out.scale))
    kwargs = {"zero_a": a.zero_point, "zero_b": b.zero_point, "multiplier": factor}
    return args, kwargs | _result(node, out)


def _matrices(node: Node, out: QParams, _: Rewriter) -> Arguments:
    a, b = map(format_behind, node.args)
    factor = _float32(float(a.scale) * float(b.scale) / float(out.scale))
    kwargs = {"zero_a": a.zero_point, "zero_b": b.zero_point, "multiplier": factor}
    return _behind(node), kwargs | _result(node, out)


def _matrices_float(node: Node, _: Rewriter) -> Arguments:
    a, b = map(format_behind, node.args)
    scale = _float32(float(a.scale) * float(b.scale))
    return _behind(node), {"zero_a": a.zero_point, "zero_b": b.zero_point, "scale": scale}


def _join(node: Node, out: QParams, rewriter: Rewriter) -> Arguments:
    """Parts of another format go through a table."""
    operands: Any = node.args[0]
    parts = [_in_format(n, format_behind(n), out, rewriter) for n in operands]
    return (parts,), {"dim": attribute(node, "dim")}


def _in_format(node: Node, format_: QParams, out: QParams, rewriter: Rewriter) -> Any:
    source = node.args[0]
    if format_ == out:
        return source
    if format_.dtype is not torch.uint8 or out.dtype is not torch.uint8:
        raise Unfit("its parts have formats of more than 8 bits")
    table = integers.quantize(every_value(format_), **integers.qparams_kwargs(out))
    constant = rewriter.constant(f"{label(node)}.table", table, node)
    return rewriter.call(arithmetic.look_up, (source, constant), {}, like=node, before=node,
                         value=info(source), quantized=out)  # type: ignore[arg-type]


def every_value(format_: QParams) -> Tensor:
    """The real numbers that the 256 integers of eight bits stand for."""
    values: Tensor = integers.dequantize(torch.arange(256), **integers.qparams_kwargs(format_))
    return values


def _average(node: Node, out: QParams, _: Rewriter) -> Arguments:
    source = format_behind(node.args[0])
    return _behind(node), average_kwargs(node, attributes(node), source, out)


def _average_float(node: Node, _: Rewriter) -> Arguments:
    """A mean whose result nobody reads as integers."""
    source = format_behind(node.args[0])
    numbers = {"zero_in": source.zero_point, "scale": source.scale}
    return _behind(node), _pool(node, attributes(node)) | numbers


def average_kwargs(node: Node, values: Mapping[str, Any], source: QParams,
                   out: QParams) -> dict[str, Any]:
    """What `arithmetic.average` is told of a pool, an adaptive pool to 1, or a mean."""
    kwargs = _pool(node, values)
    if source.scale != out.scale:
        kwargs["multiplier"] = ratio(source, out)
    return kwargs | {"zero_in": source.zero_point} | result(out)


def _pool(node: Node, values: Mapping[str, Any]) -> dict[str, Any]:
    """What is averaged: windows, shares of an image, or whole dimensions."""
    rank = len(info(node).shape or ())
    space = rank - 2
    if "kernel_size" in values:
        names = ("kernel_size", "stride", "padding")
        wide = {k: _each(values[k], space) for k in names if values[k] is not None}
        return wide | {k: values[k] for k in ("ceil_mode", "count_include_pad")}
    if "output_size" in values:
        size = _each(values["output_size"], space)
        return {"dims": tuple(range(2, rank)), "keepdim": True} if set(size) == {1} else {
            "output_size": size}
    dims = values["dim"] if isinstance(values["dim"], list | tuple) else (values["dim"],)
    full = rank if values["keepdim"] else rank + len(dims)
    return {"dims": tuple(sorted(d % full for d in dims)), "keepdim": values["keepdim"]}


def _each(value: Any, count: int) -> tuple[int, ...]:
    """One number for each dimension; a tuple of one is all of them, as torch reads it."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values if len(values) == count else values * count


def _behind(node: Node) -> tuple[Any, ...]:
    return tuple(n.args[0] for n in node.args if isinstance(n, Node))


Form = Callable[[Node, QParams, Rewriter], Arguments]
INTEGER_FORMS: Mapping[str, Form] = {
    "layer": _layer, "layer_add": _layer_add, "affine": _affine, "sum": _sum,
    "product": _product, "matrices": _matrices, "join": _join, "average": _average}
# Of calls that give float32.
FLOAT_FORMS: Mapping[str, Callable[[Node, Rewriter], Arguments]] = {
    "layer_float": _layer_float, "layer_dynamic": _layer_dynamic, "average_float": _average_float,
    "matrices_float": _matrices_float}
