"""A plan as rows of plain numbers."""

from __future__ import annotations

from ctypes import c_float
from typing import Any

import torch
from torch import Tensor

from fxq.ir.rewriter import constant_of
from fxq.kernels.native.assembly import CODE, VIEW, Assembly, Weighted
from fxq.kernels.native.structs import EXTERNAL, OPS
from fxq.runtime.native.plan import Plan
from fxq.runtime.native.steps import Step
from fxq.runtime.native.values import Value

WEIGHTED = ("CONV", "DEPTHWISE", "TRANSPOSED", "RESCALE")


def assemble(plan: Plan, inputs: int) -> Assembly:
    """Place the values of a plan, and write its steps down; its first `inputs` externals enter."""
    lane, wide = plan.finish()
    rows = _Rows(wide)
    code = tuple(rows.instruction(step) for step in plan.steps)
    order = tuple(plan.values[n].storage.space - EXTERNAL - inputs for n in plan.outputs)
    return Assembly(code, tuple(rows.views), tuple(rows.layers), tuple(rows.tables), lane, wide,
                    plan.images, tuple(plan.externals[:inputs]), tuple(plan.externals[inputs:]),
                    order)


class _Rows:
    """The tables of a program: each view once, layers and tables as the steps name them."""

    def __init__(self, wide: int) -> None:
        self.wide = wide
        self.views: dict[tuple[int, ...], int] = {}
        self.layers: list[Weighted] = []
        self.tables: list[Tensor] = []

    def view(self, value: Value | None) -> int:
        if value is None:
            return -1
        fields = value.view(self.wide)
        return self.views.setdefault(tuple(fields[name] for name in VIEW), len(self.views))

    def instruction(self, step: Step) -> tuple[float, ...]:
        fields: dict[str, Any] = dict.fromkeys(CODE, 0) | {"layer": -1, "table": -1} | step.fields
        fields |= {"op": OPS[step.op], "in": self.view(step.source),
                   "other": self.view(step.other), "out": self.view(step.result)}
        if step.op in WEIGHTED:
            fields["layer"] = len(self.layers)
            self.layers.append(_weighted(step))
        if step.table is not None:
            fields["table"] = len(self.tables)
            self.tables += step.table.reshape(-1, 256)
        rounded = {name: c_float(fields[name]).value for name in ("m0", "m1")}
        return tuple((fields | rounded)[name] for name in CODE)


def _weighted(step: Step) -> Weighted:
    weight, bias, multiplier = (constant_of(a) for a in step.node.args[1:4])
    assert weight is not None and bias is not None and multiplier is not None
    groups, zero_in = step.fields.get("groups", 1), step.fields.get("zero_in", 0)
    transposed = step.op == "TRANSPOSED"
    if not bias.is_floating_point():
        return Weighted(weight, bias, multiplier, groups, zero_in, transposed)
    none = torch.zeros_like(bias, dtype=torch.int32)  # a layer that measures adds floats
    return Weighted(weight, none, multiplier, groups, zero_in, transposed, addend=bias)


def same(a: Assembly, b: Assembly) -> bool:
    """The same numbers everywhere."""
    plain = ("code", "views", "lane", "wide", "images", "inputs", "outputs", "order")
    return all(getattr(a, name) == getattr(b, name) for name in plain) and (
        len(a.layers) == len(b.layers) and len(a.tables) == len(b.tables)
        and all(map(torch.equal, a.tables, b.tables)) and all(map(_same_layer, a.layers, b.layers)))


def _same_layer(a: Weighted, b: Weighted) -> bool:
    numbers = ((a.weight, b.weight), (a.bias, b.bias), (a.multiplier, b.multiplier))
    if a.addend is not None or b.addend is not None:
        return False  # no file holds such
    return (a.groups, a.zero_in, a.transposed) == (b.groups, b.zero_in, b.transposed) and all(
        x.dtype == y.dtype and torch.equal(x.cpu(), y.cpu()) for x, y in numbers)


__all__ = ["WEIGHTED", "assemble", "same"]
