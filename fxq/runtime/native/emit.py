"""How each function of a LOWERED graph becomes steps of a program: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.fx import Node

from fxq.ir import arithmetic
from fxq.ir.facts import info
from fxq.ir.rewriter import constant_of
from fxq.kernels.native.structs import ADAPTIVE, CHANNEL_TABLES, FLOAT_OUT, INCLUDE_PAD, RESIDUAL
from fxq.runtime.native.emit_dynamic import linear_dynamic
from fxq.runtime.native.emit_moves import MOVES, Emit
from fxq.runtime.native.matrices import matmul
from fxq.runtime.native.plan import Plan
from fxq.runtime.native.steps import Unplanned
from fxq.runtime.native.values import Value
from fxq.runtime.native.windows import ONE_PIXEL, border, pooled, spread, window


def _rounding(node: Node) -> dict[str, Any]:
    kw = node.kwargs
    return {"zero_in": kw.get("zero_in", 0), "zero_out": kw["zero"], "low": kw["low"],
            "high": kw["high"]}


def _conv(plan: Plan, node: Node) -> None:
    args, source = node.args, plan.source(node)
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


def _conv_transpose(plan: Plan, node: Node) -> None:
    source, weight = plan.source(node), _constant(node.args[1])
    kw: Mapping[str, Any] = node.kwargs
    rank = weight.dim() - 2
    geometry = window(weight.shape[2:], kw["stride"], kw["padding"], kw["dilation"], rank)
    more = window(1, 1, kw["output_padding"], 1, rank)
    size = (*spread(source, geometry, more), weight.shape[1] * kw["groups"])
    plan.add("TRANSPOSED", node, source, size, **geometry, **_rounding(node), groups=kw["groups"])


def _constant(node: Any) -> Tensor:
    value = constant_of(node)
    if value is None:
        raise Unplanned("weights that are computed at run time")
    return value




def _linear(plan: Plan, node: Node) -> None:
    source, weight = plan.source(node), _constant(node.args[1])
    _refuse_rows(source)
    plan.add("CONV", node, source, (1, 1, weight.shape[0]), **ONE_PIXEL, **_rounding(node),
             groups=1)


def _linear_float(plan: Plan, node: Node) -> None:
    source, weight = plan.source(node), _constant(node.args[1])
    _refuse_rows(source)
    bounds: dict[str, Any] = {"low": 0, "high": 255, "zero_out": 0 if node.kwargs["relu"] else 1}
    result = plan.floats((plan.images, weight.shape[0]))  # low at the zero point: a ReLU
    plan.append("CONV", node, source, result, **ONE_PIXEL, **bounds, groups=1, flags=FLOAT_OUT,
                zero_in=node.kwargs["zero_in"])
    plan.values[node] = result


def _refuse_rows(source: Value) -> None:
    if source.rank != 2:
        raise Unplanned("a linear layer of more than two dimensions")


def _enter(plan: Plan, node: Node) -> None:
    source, kw = plan.source(node), node.kwargs
    if source.storage.element != 4:
        raise Unplanned("an input that is no float32 tensor")
    plan.add("ENTER", node, source, source.size, **_rounding(node), m0=kw["multiplier"])


def _enter_bytes(plan: Plan, node: Node) -> None:
    """No table joins it: it has its own."""
    source = plan.source(node)
    result = plan.values[node] = plan.fresh(node, *source.size)
    plan.append("ENTER", node, source, result, table=_constant(node.args[1]),
                flags=CHANNEL_TABLES)


def _leave(plan: Plan, node: Node) -> None:
    source, kw = plan.source(node), node.kwargs
    space = {2: (), 3: (source.w,)}.get(source.rank, (source.h, source.w))
    result = plan.floats((plan.images, source.c, *space))
    plan.append("LEAVE", node, source, result, zero_in=kw["zero"], m0=kw["scale"])
    plan.values[node] = result


def _add(plan: Plan, node: Node) -> None:
    names: Any = node.args
    a, b = (plan.values[n] for n in names)
    if a.size != b.size:
        raise Unplanned("a sum of values of different sizes")
    kw = node.kwargs
    fields = _rounding(node) | {"zero_in": kw["zero_a"], "zero_other": kw["zero_b"],
                                "m0": kw["multiplier_a"], "m1": kw["multiplier_b"]}
    plan.add("ADD", node, a, a.size, b, plan.over(node, a.size, *names), **fields)


def _multiply(plan: Plan, node: Node) -> None:
    names: Any = node.args
    kw = node.kwargs
    (a, za), (b, zb) = sorted(((plan.values[n], z) for n, z in zip(
        names, (kw["zero_a"], kw["zero_b"]), strict=True)), key=lambda v: -v[0].h * v[0].w)
    if a.c != b.c or (b.h, b.w) not in ((1, 1), (a.h, a.w)):
        raise Unplanned("a product of values of different sizes")
    plan.add("MULTIPLY", node, a, a.size, b, plan.over(node, a.size, *names),
             **_rounding(node) | {"zero_in": za, "zero_other": zb, "m0": kw["multiplier"]})


def _look_up(plan: Plan, node: Node) -> None:
    if node in plan.absorbed:
        return
    source = plan.source(node)
    result = plan.values[node] = plan.fresh(node, *source.size)
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


def _average(plan: Plan, node: Node) -> None:
    source = plan.source(node)
    size, fields = _pooling(source, node.kwargs)
    plan.add("AVERAGE_POOL", node, source, size, **fields, **_rounding(node),
             m0=node.kwargs.get("multiplier", 1.0))


def _average_float(plan: Plan, node: Node) -> None:
    source, kw = plan.source(node), node.kwargs
    (h, w, c), fields = _pooling(source, kw)
    space = {2: (), 3: (w,)}.get(plan.rank(node), (h, w))
    result = plan.values[node] = plan.floats((plan.images, c, *space))
    fields["flags"] |= FLOAT_OUT
    plan.append("AVERAGE_POOL", node, source, result, **fields, zero_in=kw["zero_in"],
                m0=kw["scale"])


def _pooling(source: Value, kw: Mapping[str, Any]) -> tuple[tuple[int, int, int], dict[str, Any]]:
    """The size of what an average gives, and its geometry."""
    kernel, shares = kw.get("kernel_size"), kw.get("output_size")
    if shares is not None:
        wanted = (1, *shares)[-2:]  # a signal has one row
        h, w = (n or whole for n, whole in zip(wanted, (source.h, source.w), strict=True))
        kernel = -(-source.h // h), -(-source.w // w)
        return (h, w, source.c), {**window(kernel, 1, 0, 1, 2), "flags": ADAPTIVE}
    if kernel is None:  # over the whole image
        return (1, 1, source.c), {**window((source.h, source.w), 1, 0, 1, 2), "flags": 0}
    geometry = window(kernel, kw.get("stride") or kernel, kw.get("padding", 0), 1,
                      source.rank - 2)
    h, w = pooled(source, geometry, bool(kw.get("ceil_mode", False)))
    flags = INCLUDE_PAD if kw.get("count_include_pad", True) else 0
    return (h, w, source.c), {**geometry, "flags": flags}


EMIT: Mapping[Any, Emit] = {
    arithmetic.conv: _conv, arithmetic.conv_add: _conv,
    arithmetic.conv_transpose: _conv_transpose, arithmetic.linear: _linear,
    arithmetic.linear_float: _linear_float, arithmetic.linear_dynamic: linear_dynamic,
    arithmetic.add: _add,
    arithmetic.multiply: _multiply, arithmetic.look_up: _look_up,
    arithmetic.concatenate: _concatenate, arithmetic.average: _average,
    arithmetic.average_float: _average_float,
    arithmetic.matmul: matmul, arithmetic.matmul_float: matmul,
    arithmetic.enter: _enter, arithmetic.enter_bytes: _enter_bytes,
    arithmetic.leave: _leave, **MOVES}
# What computes into memory of its own, and can take a table behind it.
WRITERS = frozenset({
    arithmetic.conv, arithmetic.conv_add, arithmetic.conv_transpose, arithmetic.linear,
    arithmetic.add, arithmetic.multiply, arithmetic.average, arithmetic.enter,
    arithmetic.max_pool1d, arithmetic.max_pool2d})
