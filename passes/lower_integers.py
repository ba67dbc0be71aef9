"""Lowering for targets of plain integers: each pattern becomes one call of `fxq.ir.arithmetic`.

    y8 = quantize(conv2d_relu(dequantize(x8), dequantize_weight(w8, s), dequantize_weight(b32, t)))
 -> y8 = conv(x8, w8, b32, multiplier, …, zero_in=…, zero=…, low=…, high=…)

  1. A function of one value is the table that `tabulate` has stored.
  2. A clamp of integers moves into the bounds of what makes them.
  3. What no call can hold computes in float between `leave` and `enter`.
  4. Images of bytes enter by a table for each channel, whatever float makes of each byte.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch.fx import Node

from fxq.errors import VerificationError
from fxq.ir import arithmetic, integers
from fxq.ir.facts import KERNEL, MACS, info, is_on_integers, qparams
from fxq.ir.ops import OPS, Op
from fxq.ir.rewriter import Rewriter, label
from fxq.ir.sizes import macs
from fxq.kernels.byte_entries import table_behind
from fxq.kernels.calls import Call, get_call
from fxq.kernels.integer_calls import INTEGER_CALLS
from fxq.kernels.integer_forms import (
    FLOAT_FORMS,
    INTEGER_FORMS,
    Arguments,
    Unfit,
    average_kwargs,
    result,
)
from fxq.kernels.integer_layers import why_not_width
from fxq.kernels.lookup_tables import is_function, source_of, table_of
from fxq.kernels.needs import why_not_format
from fxq.kernels.rows import row_of
from fxq.quantization.formats import QParams
from fxq.targets.base import Target

_SELECT: dict[str, Any] = {"max_pool1d": arithmetic.max_pool1d,
                           "max_pool2d": arithmetic.max_pool2d, "interpolate": arithmetic.nearest}


def lower_integers(module: fx.GraphModule, target: Target, rewriter: Rewriter) -> None:
    """Rewrite a REFERENCE graph in place.

    Raises VerificationError for integers that a target with kernels does not hold.
    """
    for node in list(module.graph.nodes):
        if not target.simulates:
            _check_width(node, target)
        if node.target is integers.quantize:
            _lower_quantize(node, rewriter)
        elif node.target is integers.clamp_on_integers:
            _lower_clamp(node, rewriter)
        elif integers.is_integer_operator(node):
            _lower_integer_operator(node, rewriter)
        elif call := _float_call(node):
            _lower_float_result(node, get_call(call), rewriter)
    rewriter.sweep()
    for node in list(module.graph.nodes):
        if node.target is integers.dequantize:
            _leave(node, rewriter)


def _check_width(node: Node, target: Target) -> None:
    """The graph may have been made for another target."""
    format_, reason = qparams(node), None
    if format_ is not None:
        reason = why_not_format(format_, target.activation)
    elif is_on_integers(node):
        reason = why_not_width(node)
    if reason:
        raise VerificationError(f"{label(node)} cannot be held for {target.name}", why=reason)


def _lower_quantize(quantize: Node, rewriter: Rewriter) -> None:
    producer = quantize.args[0]
    assert isinstance(producer, Node)
    if is_function(quantize):  # 1
        _look_up(quantize, producer, rewriter)
        return
    row = row_of(producer) if is_on_integers(producer) else None
    call = get_call(row.call) if row else None
    if call is None or call.form not in INTEGER_FORMS:
        _enter(quantize, rewriter)
        return
    try:
        found = INTEGER_FORMS[call.form](producer, integers.qparams_argument(quantize), rewriter)
    except Unfit as reason:  # 3
        rewriter.refuse(producer, "arithmetic", f"{reason}")
        _enter(quantize, rewriter)
        return
    _replace(quantize, producer, call, found, rewriter)


def _look_up(quantize: Node, function: Node, rewriter: Rewriter) -> None:
    """By the graph's own table; a graph that was placed for another target has none."""
    table = quantize.args[1] if len(quantize.args) > 1 else rewriter.constant(
        f"{label(function)}.table", table_of(function, integers.qparams_argument(quantize)),
        quantize)
    call, args = INTEGER_CALLS["look_up"], (source_of(function), table)
    _replace(quantize, function, call, (args, {}), rewriter)


def _enter(quantize: Node, rewriter: Rewriter) -> None:
    out = integers.qparams_argument(quantize)
    inverse = float(torch.tensor(1 / out.scale, dtype=torch.float64).float())
    numbers = {"multiplier": inverse} | result(out)
    bytes_ = table_behind(quantize.args[0], numbers) if out.dtype is torch.uint8 else None
    if bytes_ is None:
        _replace(quantize, quantize, INTEGER_CALLS["enter"], ((quantize.args[0],), numbers),
                 rewriter)
        return
    table = rewriter.constant(f"{label(quantize)}.table", bytes_[1], quantize)  # 4
    _replace(quantize, quantize, INTEGER_CALLS["enter_bytes"], ((bytes_[0], table), {}), rewriter)


def _leave(node: Node, rewriter: Rewriter) -> None:
    format_ = integers.qparams_argument(node)
    kwargs = {"zero": format_.zero_point, "scale": format_.scale}
    new = rewriter.call(arithmetic.leave, node.args, kwargs, like=node, before=node)
    KERNEL.set(new, "leave")
    rewriter.replace(node, new, "leave")


def _float_call(node: Node) -> str | Call:
    """What computes an operator whose float result is read: from integers, or from floats that
    it rounds by their own range."""
    if node.args and getattr(node.args[0], "target", None) is integers.round_at_run_time:
        row = row_of(node)
        return row.dynamic_call if row else ""
    row = row_of(node) if is_on_integers(node) else None
    return row.float_call if row and not any(
        u.target is integers.quantize for u in node.users) else ""


def _lower_float_result(node: Node, call: Call, rewriter: Rewriter) -> None:
    try:
        args, kwargs = FLOAT_FORMS[call.form](node, rewriter)
    except Unfit as reason:  # 3
        rewriter.refuse(node, "arithmetic", f"{reason}")
        return
    new = rewriter.call(call.function, args, kwargs, like=node, before=node)
    if macs(node):
        MACS.set(new, macs(node))
    KERNEL.set(new, call.name)
    rewriter.replace(node, new, call.name)


def _lower_clamp(node: Node, rewriter: Rewriter) -> None:
    source, format_ = node.args[0], qparams(node)
    assert isinstance(source, Node) and format_ is not None
    low, high = (int(node.kwargs[k]) for k in ("low", "high"))  # type: ignore[arg-type]
    if "low" in source.kwargs and set(source.users) == {node} and qparams(source) == format_:  # 2
        for key in ("low", "high"):
            inside = min(max(int(source.kwargs[key]), low), high)  # type: ignore[arg-type]
            source.update_kwarg(key, inside)
        rewriter.replace(node, source, "clamped where it is made")
        return
    _bound(node, low, high, format_, rewriter)


def _bound(node: Node, low: int, high: int, format_: QParams, rewriter: Rewriter) -> None:
    """A clamp that no maker of its value can do."""
    if format_.dtype is not torch.uint8:
        _select(node, OPS["clamp"], {"min": low, "max": high}, rewriter)
        return
    table = torch.arange(256).clamp(low, high).to(torch.uint8)
    args = (node.args[0], rewriter.constant(f"{label(node)}.table", table, node))
    _replace(node, node, INTEGER_CALLS["look_up"], (args, {}), rewriter)


def _lower_integer_operator(node: Node, rewriter: Rewriter) -> None:
    """An operator that keeps the format of what it reads."""
    op, row, format_ = integers.float_op_of(node), row_of(node), qparams(node)
    assert op is not None and format_ is not None
    kwargs: dict[str, Any] = {k: v for k, v in node.kwargs.items() if k != "zero_point"}
    if row is None:
        _compute_in_float(node, op, kwargs, format_, rewriter)
    elif op.name == "relu":
        _bound(node, format_.zero_point, format_.high, format_, rewriter)
    elif op.averages:
        values = {**op.attributes, **kwargs}
        found = (node.args, average_kwargs(node, values, format_, format_))
        _replace(node, node, INTEGER_CALLS["average"], found, rewriter)
    elif op.name == "cat":
        found = (node.args, {"dim": kwargs.get("dim", 0)})
        _replace(node, node, INTEGER_CALLS["cat"], found, rewriter)
    else:
        more = {"value": format_.zero_point} if op.name == "pad" else {}
        _select(node, op, kwargs | more, rewriter)


def _select(node: Node, op: Op, kwargs: dict[str, Any], rewriter: Rewriter) -> None:
    """torch's own function on plain integers: it moves them, and computes nothing."""
    call = Call(op.name, _SELECT.get(op.name, op.call), "select")
    _replace(node, node, call, (node.args, kwargs), rewriter)


def _compute_in_float(node: Node, op: Op, kwargs: dict[str, Any], format_: QParams,
                      rewriter: Rewriter) -> None:
    """What the target has no call for: the graph was placed for another one."""
    float_ = replace(info(node), dtype=torch.float32)
    twin = rewriter.call(op, node.args, kwargs, like=node, before=node, value=float_)
    twin.args = fx.map_arg(node.args, lambda source: rewriter.call(
        integers.dequantize, (source,), integers.qparams_kwargs(format_), like=source,
        before=twin, value=replace(info(source), dtype=torch.float32)))
    new = rewriter.call(integers.quantize, (twin,), integers.qparams_kwargs(format_), like=node,
                        before=node, quantized=format_)
    rewriter.replace(node, new, "in float")
    _enter(new, rewriter)


def _replace(old: Node, origin: Node, call: Call, found: Arguments, rewriter: Rewriter) -> None:
    record = replace(info(origin), dtype=info(old).dtype)
    new = rewriter.call(call.function, *found, like=old, before=old, value=record,
                        quantized=qparams(old))
    if macs(origin):
        MACS.set(new, macs(origin))
    KERNEL.set(new, call.name)
    rewriter.replace(old, new, call.name)


__all__ = ["lower_integers"]
