"""Layers that measure the range of their input at each call, as steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.fx import Node

from fxq.ir.rewriter import constant_of
from fxq.kernels.native.structs import MEASURED, SUMS_OUT
from fxq.runtime.native.plan import Plan
from fxq.runtime.native.steps import Unplanned
from fxq.runtime.native.values import Storage, Value
from fxq.runtime.native.windows import ONE_PIXEL

_SHARES = 16  # parts of a tensor whose ranges are found side by side


def linear_dynamic(plan: Plan, node: Node) -> None:
    """The range of all images, their integers, sums, and floats in the memory of the sums."""
    source, weight = plan.source(node), constant_of(node.args[1])
    kw: Mapping[str, Any] = node.kwargs
    if source.storage.element != 4 or not plan.images or weight is None:
        raise Unplanned("an input that is empty, or no float32 tensor")
    range_, rounded = _measured(plan, node, source)
    result = plan.floats((plan.images, weight.shape[0]))
    plan.append("CONV", node, rounded, result, **ONE_PIXEL, groups=1, flags=SUMS_OUT)
    plan.append("RESCALE", node, result, result, range_, flags=MEASURED, low=kw["low"],
                high=kw["high"], zero_out=kw["low"] if kw["relu"] else kw["low"] + 1)
    plan.values[node] = result


def _measured(plan: Plan, node: Node, source: Value) -> tuple[Value, Value]:
    """The range of a value, in parts that threads find, and the integers that it gives."""
    key = node.args[0], node.kwargs["low"], node.kwargs["high"]
    if key not in plan.measured:
        numbers = 2 * min(plan.images, _SHARES)
        range_ = Value(Storage(1, 1, numbers, 4), 1, 1, numbers, rank=2)
        rounded = Value(Storage(1, 1, source.c), 1, 1, source.c, rank=2)
        plan.append("RANGE", node, source, range_)
        plan.append("ENTER", node, source, rounded, range_, flags=MEASURED,
                    low=node.kwargs["low"], high=node.kwargs["high"])
        plan.measured[key] = range_, rounded
    return plan.measured[key]
