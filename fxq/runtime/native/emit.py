"""How each function of a LOWERED graph becomes steps of a program: one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir import arithmetic
from fxq.ir.facts import info
from fxq.ir.ops import OPS, op_of
from fxq.ir.rewriter import constant_of
from fxq.runtime.native.plan import ADAPTIVE, FLOAT_OUT, INCLUDE_PAD, RESIDUAL, Plan, Unplanned
from fxq.runtime.native.values import Storage, Value
from fxq.runtime.native.windows import border, pooled, window

Emit = Callable[[Plan, Node], None]


def _source(plan: Plan, node: Node) -> Value:
    return plan.values[node.args[0]]  # type: ignore[index]


def _size(value: Value) -> tuple[int, int, int]:
    return value.h, value.w, value.c


def _rounding(node: Node) -> dict[str, Any]:
    kw = node.kwargs
    return {"zero_in": kw.get("zero_in", 0), "zero_out": kw["zero"], "low": kw["low"],
            "high": kw["high"]}


def _conv(plan: Plan, node: Node) -> None:
    args, source = node.args, _source(plan, node)
    kw: Mapping[str, Any] = node.kwargs
    weight, groups = _constant(args[1]), kw["groups"]
    rank = weight.dim() - 2
    geometry = window(weight.shape[2:], kw["stride"], kw["padding"], kw["dilation"], rank)
    size = (*pooled(source, geometry), weight.shape[0])
    source.ask_border(*border(source, geometry, size))
    fields: dict[str, Any] = {**geometry, **_rounding(node), "groups": groups}
    if len(args) < 5:
        single = groups > 1 and weight.shape[:2] == (groups, 1)
        plan.add("DEPTHWISE" if single else "CONV", node, source, size, **fields)
        return
    other: Any = args[4]
    apart = plan.values[other].storage is not source.storage
    plan.add("CONV", node, source, size, plan.values[other],
             plan.over(node, size, other) if apart else None, **fields, flags=RESIDUAL,
             zero_other=kw["zero_other"], m1=kw["other_multiplier"])


def _constant(node: Any) -> Tensor:
    value = constant_of(node)
    if value is None:
        raise Unplanned("weights that are computed at run time")
    return value


_ONE = window(1, 1, 0, 1, 2)  # a linear layer is a convolution of single pixels


def _linear(plan: Plan, node: Node) -> None:
    source, weight = _source(plan, node), _constant(node.args[1])
    _refuse_rows(source)
    plan.add("CONV", node, source, (1, 1, weight.shape[0]), **_ONE, **_rounding(node), groups=1)


def _linear_float(plan: Plan, node: Node) -> None:
    source, weight = _source(plan, node), _constant(node.args[1])
    _refuse_rows(source)
    bounds: dict[str, Any] = {"low": 0, "high": 255, "zero_out": 0 if node.kwargs["relu"] else 1}
    result = _float_result(plan, (plan.images, weight.shape[0]))  # low at the zero point: a ReLU
    plan.append("CONV", node, source, result, **_ONE, **bounds, groups=1, flags=FLOAT_OUT,
                zero_in=node.kwargs["zero_in"])
    plan.values[node] = result


def _refuse_rows(source: Value) -> None:
    if source.rank != 2:
        raise Unplanned("a linear layer of more than two dimensions")


def _float_result(plan: Plan, shape: tuple[int, ...]) -> Value:
    """A contiguous float tensor of the caller."""
    return plan.external(shape, torch.empty(shape, device="meta").stride(), 4)


def _enter(plan: Plan, node: Node) -> None:
    source, kw = _source(plan, node), node.kwargs
    if source.storage.element != 4:
        raise Unplanned("an input that is no float32 tensor")
    plan.add("ENTER", node, source, _size(source), **_rounding(node), m0=kw["multiplier"])


def _leave(plan: Plan, node: Node) -> None:
    source, kw = _source(plan, node), node.kwargs
    space = {2: (), 3: (source.w,)}.get(source.rank, (source.h, source.w))
    result = _float_result(plan, (plan.images, source.c, *space))
    plan.append("LEAVE", node, source, result, zero_in=kw["zero"], m0=kw["scale"])
    plan.values[node] = result


def _add(plan: Plan, node: Node) -> None:
    names: Any = node.args
    a, b = (plan.values[n] for n in names)
    if _size(a) != _size(b):
        raise Unplanned("a sum of values of different sizes")
    kw = node.kwargs
    fields = _rounding(node) | {"zero_in": kw["zero_a"], "zero_other": kw["zero_b"],
                                "m0": kw["multiplier_a"], "m1": kw["multiplier_b"]}
    plan.add("ADD", node, a, _size(a), b, plan.over(node, _size(a), *names), **fields)


def _multiply(plan: Plan, node: Node) -> None:
    names: Any = node.args
    kw = node.kwargs
    (a, za), (b, zb) = sorted(((plan.values[n], z) for n, z in zip(
        names, (kw["zero_a"], kw["zero_b"]), strict=True)), key=lambda v: -v[0].h * v[0].w)
    if a.c != b.c or (b.h, b.w) not in ((1, 1), (a.h, a.w)):
        raise Unplanned("a product of values of different sizes")
    plan.add("MULTIPLY", node, a, _size(a), b, plan.over(node, _size(a), *names),
             **_rounding(node) | {"zero_in": za, "zero_other": zb, "m0": kw["multiplier"]})


def _look_up(plan: Plan, node: Node) -> None:
    if node in plan.absorbed:
        return
    source = _source(plan, node)
    result = plan.values[node] = plan.fresh(node, *_size(source))
    plan.append("TABLE", node, source, result, table=_constant(node.args[1]))


def _concatenate(plan: Plan, node: Node) -> None:
    """Parts that could not write themselves into it are copied."""
    start, shape = 0, info(node).shape or (0, 0)
    parts: Any = node.args[0]
    first = plan.values[parts[0]]
    if node not in plan.values:
        plan.values[node] = plan.fresh(node, first.h, first.w, shape[1])
    whole = plan.values[node]
    if whole.c != sum(plan.values[part].c for part in parts):
        raise Unplanned("a concatenation of flattened images of another size than the example's")
    for part in parts:
        value = plan.values[part]
        if (whole.h, whole.w) != (value.h, value.w):
            raise Unplanned("parts of a concatenation differ in size")
        target = whole.channels(start, value.c)
        if target.storage is not value.storage or target.channel != value.channel:
            plan.append("TABLE", node, value, target)
        start += value.c


def _max_pool(plan: Plan, node: Node) -> None:
    source, at = _source(plan, node), _attributes(node)
    rank = source.rank - 2
    geometry = window(at["kernel_size"], at["stride"] or at["kernel_size"], at["padding"],
                      at["dilation"], rank)
    size = (*pooled(source, geometry, at["ceil_mode"]), source.c)
    plan.add("MAX_POOL", node, source, size, **geometry)


def _average(plan: Plan, node: Node) -> None:
    source, kw = _source(plan, node), node.kwargs
    fields: dict[str, Any] = {**_rounding(node), "m0": kw.get("multiplier", 1.0)}
    kernel: Any = kw.get("kernel_size")
    shares: Any = kw.get("output_size")
    if shares is not None:
        h, w = (n or whole for n, whole in zip(shares, (source.h, source.w), strict=True))
        plan.add("AVERAGE_POOL", node, source, (h, w, source.c), **fields, flags=ADAPTIVE,
                 **window((-(-source.h // h), -(-source.w // w)), 1, 0, 1, 2))
        return
    if kernel is None:  # over the whole image
        plan.add("AVERAGE_POOL", node, source, (1, 1, source.c), **fields,
                 **window((source.h, source.w), 1, 0, 1, 2))
        return
    geometry = window(kernel, kw.get("stride") or kernel, kw.get("padding", 0), 1,
                      source.rank - 2)
    size = (*pooled(source, geometry, bool(kw.get("ceil_mode", False))), source.c)
    flags = INCLUDE_PAD if kw.get("count_include_pad", True) else 0
    plan.add("AVERAGE_POOL", node, source, size, **fields, **geometry, flags=flags)


def _attributes(node: Node) -> Mapping[str, Any]:
    """Those of an operator that moves values, defaults included."""
    op = op_of(node) or OPS[_NAMES[node.target]]
    return {name: node.kwargs.get(name, default) for name, default in op.attributes.items()}


def _shuffle(plan: Plan, node: Node) -> None:
    source = _source(plan, node)
    plan.add("SHUFFLE", node, source, _size(source), groups=_attributes(node)["groups"])


def _interpolate(plan: Plan, node: Node) -> None:
    source, at = _source(plan, node), _attributes(node)
    if at["mode"] != "nearest" or source.rank != 4:
        raise Unplanned("an interpolation that is not nearest")
    size, factor = at["size"], at["scale_factor"]
    if size is None:
        h, w = (int(n * f) for n, f in zip((source.h, source.w), (
            factor if isinstance(factor, list | tuple) else (factor, factor)), strict=True))
        if (h % source.h, w % source.w) != (0, 0):
            raise Unplanned("an interpolation by a broken factor")
    else:
        h, w = size if isinstance(size, list | tuple) else (size, size)
    plan.add("NEAREST", node, source, (h, w, source.c))


def _narrow(plan: Plan, node: Node) -> None:
    source, at = _source(plan, node), _attributes(node)
    if at["dim"] != 1:
        raise Unplanned("a part of something else than channels")
    plan.values[node] = source.channels(at["start"], at["length"])


def _flatten(plan: Plan, node: Node) -> None:
    source = _source(plan, node)
    if (source.h, source.w) == (1, 1):
        plan.values[node] = replace(source, rank=2)
        return
    plan.add("FLATTEN", node, source, (1, 1, source.c * source.h * source.w))


def _reshape(plan: Plan, node: Node) -> None:
    source, shape = _source(plan, node), _attributes(node)["shape"]
    if isinstance(shape[1], int) and shape[1] not in (-1, source.c * source.h * source.w):
        raise Unplanned("a reshape that moves images into each other")
    _flatten(plan, node)


def _pad(plan: Plan, node: Node) -> None:
    source, (left, right, *rows) = _source(plan, node), _attributes(node)["pad"]
    top, bottom = rows or (0, 0)
    sides = (top, left, bottom, right)
    if min(sides) < 0:  # what is cut off is no border of what is left
        source = _cut(plan, node, source.padded(*(min(n, 0) for n in sides)))
    plan.values[node] = source.padded(*(max(n, 0) for n in sides))


def _cut(plan: Plan, node: Node, source: Value) -> Value:
    """A copy of a part of an image."""
    if min(_size(source)) < 1:
        raise Unplanned("a negative padding leaves nothing of an image")
    storage = Storage(*_size(source))
    result = Value(storage, *_size(source), source.zero, rank=source.rank)
    plan.append("TABLE", node, source, result)
    return result


def _same(plan: Plan, node: Node) -> None:
    plan.values[node] = _source(plan, node)


# Functions of torch that move integers; three stand in for those that torch does not have on all.
_NAMES: Mapping[Any, str] = {arithmetic.max_pool1d: "max_pool1d",
                             arithmetic.max_pool2d: "max_pool2d", arithmetic.nearest: "interpolate"}
_MOVES: Mapping[Any, Emit] = {
    arithmetic.max_pool1d: _max_pool, arithmetic.max_pool2d: _max_pool,
    arithmetic.nearest: _interpolate,
    **{OPS[name].call: emit for name, emit in (
        ("channel_shuffle", _shuffle), ("narrow", _narrow),
        ("flatten", _flatten), ("squeeze", _flatten), ("reshape", _reshape), ("pad", _pad),
        ("contiguous", _same))}}
EMIT: Mapping[Any, Emit] = {
    arithmetic.conv: _conv, arithmetic.conv_add: _conv, arithmetic.linear: _linear,
    arithmetic.linear_float: _linear_float, arithmetic.add: _add,
    arithmetic.multiply: _multiply, arithmetic.look_up: _look_up,
    arithmetic.concatenate: _concatenate, arithmetic.average: _average,
    arithmetic.enter: _enter, arithmetic.leave: _leave, **_MOVES}
# What computes into memory of its own, and can take a table behind it.
WRITERS = frozenset({
    arithmetic.conv, arithmetic.conv_add, arithmetic.linear, arithmetic.add, arithmetic.multiply,
    arithmetic.average, arithmetic.enter, arithmetic.max_pool1d, arithmetic.max_pool2d})
