"""Functions that move integers, or choose among them, as steps and views: one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch.fx import Node

from fxq.ir import arithmetic
from fxq.ir.ops import OPS, op_of
from fxq.runtime.native.plan import Plan
from fxq.runtime.native.steps import Unplanned
from fxq.runtime.native.values import Storage, Value
from fxq.runtime.native.windows import pooled, window

Emit = Callable[[Plan, Node], None]


def _max_pool(plan: Plan, node: Node) -> None:
    source, at = plan.source(node), _attributes(node)
    rank = source.rank - 2
    geometry = window(at["kernel_size"], at["stride"] or at["kernel_size"], at["padding"],
                      at["dilation"], rank)
    size = (*pooled(source, geometry, at["ceil_mode"]), source.c)
    plan.add("MAX_POOL", node, source, size, **geometry)


def _attributes(node: Node) -> Mapping[str, Any]:
    """Those of an operator that moves values, defaults included."""
    op = op_of(node) or OPS[_NAMES[node.target]]
    return {name: node.kwargs.get(name, default) for name, default in op.attributes.items()}


def _shuffle(plan: Plan, node: Node) -> None:
    source = plan.source(node)
    plan.add("SHUFFLE", node, source, source.size, groups=_attributes(node)["groups"])


def _interpolate(plan: Plan, node: Node) -> None:
    source, at = plan.source(node), _attributes(node)
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
    source, at = plan.source(node), _attributes(node)
    if at["dim"] != 1:
        raise Unplanned("a part of something else than channels")
    plan.values[node] = source.channels(at["start"], at["length"])


def _flatten(plan: Plan, node: Node) -> None:
    source = plan.source(node)
    if (source.h, source.w) == (1, 1):
        plan.values[node] = replace(source, rank=2)
        return
    plan.add("FLATTEN", node, source, (1, 1, source.c * source.h * source.w))


def _reshape(plan: Plan, node: Node) -> None:
    source, shape = plan.source(node), _attributes(node)["shape"]
    if isinstance(shape[1], int) and shape[1] not in (-1, source.c * source.h * source.w):
        raise Unplanned("a reshape that moves images into each other")
    _flatten(plan, node)


def _pad(plan: Plan, node: Node) -> None:
    source, (left, right, *rows) = plan.source(node), _attributes(node)["pad"]
    top, bottom = rows or (0, 0)
    sides = (top, left, bottom, right)
    if min(sides) < 0:  # what is cut off is no border of what is left
        source = _cut(plan, node, source.padded(*(min(n, 0) for n in sides)))
    plan.values[node] = source.padded(*(max(n, 0) for n in sides))


def _cut(plan: Plan, node: Node, source: Value) -> Value:
    """A copy of a part of an image."""
    if min(source.size) < 1:
        raise Unplanned("a negative padding leaves nothing of an image")
    storage = Storage(*source.size)
    result = Value(storage, *source.size, source.zero, rank=source.rank)
    plan.append("TABLE", node, source, result)
    return result


def _same(plan: Plan, node: Node) -> None:
    plan.values[node] = plan.source(node)


# Functions of torch that move integers; three stand in for those that torch does not have on all.
_NAMES: Mapping[Any, str] = {arithmetic.max_pool1d: "max_pool1d",
                             arithmetic.max_pool2d: "max_pool2d", arithmetic.nearest: "interpolate"}
MOVES: Mapping[Any, Emit] = {
    arithmetic.max_pool1d: _max_pool, arithmetic.max_pool2d: _max_pool,
    arithmetic.nearest: _interpolate,
    **{OPS[name].call: emit for name, emit in (
        ("channel_shuffle", _shuffle), ("narrow", _narrow),
        ("flatten", _flatten), ("squeeze", _flatten), ("reshape", _reshape), ("pad", _pad),
        ("contiguous", _same))}}
