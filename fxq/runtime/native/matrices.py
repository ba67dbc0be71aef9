"""Products of two values: a program of one step, over tensors that lie as the caller has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch.fx import Node

from fxq.ir import arithmetic
from fxq.kernels.native.assembly import Outside
from fxq.kernels.native.structs import EXTERNAL, FLOAT_OUT
from fxq.runtime.native.plan import Plan
from fxq.runtime.native.steps import Unplanned
from fxq.runtime.native.values import Storage, Value


def images(shape: Sequence[int]) -> int:
    """How many images a program takes for matrices of such a shape."""
    return shape[0] if len(shape) > 2 else 1


def matrices(plan: Plan, shape: Sequence[int], strides: Sequence[int], element: int) -> Value:
    """A tensor of the caller: rows of numbers are pixels, and matrices of an image its rows.

    Raises Unplanned for one that is empty, or has not two to four dimensions.
    """
    if not 2 <= len(shape) <= 4 or 0 in shape:
        raise Unplanned(f"matrices of shape {list(shape)}")
    rows = shape[1] if len(shape) == 4 else 1
    outer = {2: (0,), 3: (strides[0],)}.get(len(shape), strides[:2])
    inner = (shape[-2] * strides[-2], *strides[-2:])[len(outer) - 1:]
    steps = [step * element for step in (*outer, *inner)]
    storage = Storage(rows, shape[-2], shape[-1], element, EXTERNAL + len(plan.externals),
                      (steps[0], steps[1], steps[2], steps[3]))
    plan.externals.append(Outside(tuple(shape), tuple(strides), element))
    return Value(storage, rows, shape[-2], shape[-1], rank=len(shape))


def _turned(value: Value) -> Value:
    """Its columns as rows."""
    storage = value.storage
    image, row, pixel, channel = storage.strides or (0, 0, 0, 0)
    turned = replace(storage, w=storage.c, c=storage.w, strides=(image, row, channel, pixel))
    return replace(value, storage=turned, w=value.c, c=value.w)


def matmul(plan: Plan, node: Node) -> None:
    """One step; its result is float32 where its readers are."""
    a, b = (plan.values[n] for n in node.all_input_nodes * (3 - len(node.all_input_nodes)))
    shapes = [plan.externals[v.storage.space - EXTERNAL].shape for v in (a, b)]
    if shapes[0][:-2] != shapes[1][:-2] or a.c != b.w:
        raise Unplanned(f"matrices of shapes {list(shapes[0])} and {list(shapes[1])}")
    if a.c > arithmetic.MOST_TERMS:
        raise Unplanned("sums that could leave 32 bits")
    floats, kw = node.target is arithmetic.matmul_float, node.kwargs
    shape = (*shapes[0][:-1], b.c)
    steps = [1]
    for size in reversed(shape[1:]):
        steps.insert(0, steps[0] * size)
    result = plan.values[node] = matrices(plan, shape, steps, 4 if floats else 1)
    fields: dict[str, Any] = {"flags": FLOAT_OUT, "m0": kw["scale"]} if floats else {
        "m0": kw["multiplier"], "zero_out": kw["zero"]}
    plan.append("MATMUL", node, a, result, _turned(b), **fields, zero_in=kw["zero_a"],
                zero_other=kw["zero_b"], low=kw.get("low", 0), high=kw.get("high", 255))
