"""Elementwise functions without a kernel: a table of 256 results, or float between integers.

Both give the same integers; which is faster depends on the size, and is read from the costs of
the target, which are checked in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir import integers
from fxq.ir.facts import info, is_on_integers, qparams
from fxq.ir.ops import base_name, op_name, op_of
from fxq.ir.rewriter import constant_of, label
from fxq.kernels.calls import get_call
from fxq.kernels.rows import row_of
from fxq.quantization.formats import QParams

TABLE, FLOAT = "table", "float"


@dataclass(frozen=True)
class FunctionCosts:
    """Microseconds of an elementwise function over the number of its values (`sizes`).

    `table` is a look-up in 256 results, which costs the same for all functions; `between` is each
    function in float between integers, by the name of its operator.
    """

    sizes: tuple[int, ...]
    table: tuple[float, ...]
    between: Mapping[str, tuple[float, ...]]

    def of(self, op: str, elements: int) -> tuple[float, float]:
        """(table, float between integers); an operator that was never measured takes the median."""
        between = self.between.get(op)
        if between is None:
            between = tuple(np.median(list(self.between.values()), axis=0))
        costs = (np.interp(elements, self.sizes, curve) for curve in (self.table, between))
        table, float_ = (round(float(cost), 1) for cost in costs)
        return table, float_


@dataclass(frozen=True)
class Choice:
    """How one function runs, and what the cost table says of both ways, in microseconds."""

    path: str
    op: str
    elements: int
    way: str
    table_us: float
    float_us: float


def choose(node: Node, costs: FunctionCosts) -> Choice:
    """The faster way for the shape of the example; a table needs one input and plain numbers."""
    elements = math.prod(info(node).shape or ())
    table, between = costs.of(base_name(node), elements)
    way = TABLE if table < between and has_table(node) else FLOAT
    return Choice(label(node), op_name(node), elements, way, table, between)


def has_table(node: Node) -> bool:
    """Each result depends on one integer alone."""
    return all(not isinstance(a, Node) or integers.is_integer_node(a)
               or ((c := constant_of(a)) is not None and c.numel() == 1) for a in node.args)


def is_function(quantize: Node) -> bool:
    """It rounds a function of one value, which its target looks up; both have 8 bits."""
    function = quantize.args[0] if quantize.target is integers.quantize else None
    if not isinstance(function, Node) or not is_on_integers(function):
        return False
    row = row_of(function)
    source = source_of(function)
    if row is None or get_call(row.call).form != "function" or source is None:
        return False
    formats = (qparams(quantize), qparams(source))
    return has_table(function) and info(source).shape == info(quantize).shape and all(
        f is not None and f.dtype is torch.uint8 for f in formats)


def source_of(function: Node) -> Node | None:
    """The integers that a function reads, where it reads those of one value only."""
    read = [a.args[0] for a in function.args
            if isinstance(a, Node) and a.target is integers.dequantize]
    return read[0] if len(read) == 1 and isinstance(read[0], Node) else None


def table_of(node: Node, out: QParams) -> Tensor:
    """What the function makes of every integer of its input's format, as integers of its own."""
    op = op_of(node)
    assert op is not None
    results: Tensor = op.call(*map(_every_value, node.args), **node.kwargs)
    made: Tensor = integers.quantize(results, **integers.qparams_kwargs(out))
    return made


def _every_value(operand: object) -> object:
    if not isinstance(operand, Node):
        return operand
    if (constant := constant_of(operand)) is not None:
        return constant.reshape(())
    format_ = integers.qparams_argument(operand)
    every = torch.arange(256) if format_.dtype is torch.uint8 else torch.arange(
        format_.low, format_.high + 1)
    return integers.dequantize(every, **integers.qparams_kwargs(format_))
