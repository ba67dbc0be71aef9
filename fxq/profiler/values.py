"""What the nodes of a compiled graph and of its float side make, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.ir.facts import info, qparams
from fxq.ir.integers import dequantize, qparams_kwargs
from fxq.kernels.calls import from_quantized

_BINS = 40


class Values(fx.Interpreter):
    """Runs a graph and keeps what each node made, as float.

    Of a native program it runs the graph, node by node, by `fxq.ir.arithmetic`: the same bits.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.seen: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op.startswith("call_"):
            self.seen[n] = as_float(n, value).detach().clone()
        return value


def as_float(node: Node, value: Tensor) -> Tensor:
    """What a value stands for; plain integers have their format beside them."""
    if value.is_quantized:
        return from_quantized(value)
    format_ = qparams(node)
    if format_ is None or value.is_floating_point():
        return value
    real: Tensor = dequantize(value, **qparams_kwargs(format_))
    return real


def values_of(module: fx.GraphModule, inputs: Sequence[Tensor]) -> dict[Node, Tensor]:
    """What each call of a graph makes, dequantized."""
    runner = Values(module)
    with torch.no_grad():
        runner.run(*inputs)
    return runner.seen


def counterparts(compiled: fx.GraphModule, floats: fx.GraphModule) -> dict[Node, Node]:
    """The float node that makes the same value as a compiled one, by the value's canonical key."""
    known: dict[str, Node] = {}
    for node in floats.graph.nodes:
        if node.op.startswith("call_") and info(node).value:
            known[info(node).value] = node  # the last: behind a clamp that saturates
    return {n: known[info(n).value] for n in compiled.graph.nodes
            if n.op.startswith("call_") and info(n).value in known}


def paired_values(compiled: fx.GraphModule, floats: fx.GraphModule,
                  inputs: Sequence[Tensor]) -> dict[Node, tuple[Tensor, Tensor]]:
    """(float, compiled) of each value that both graphs make."""
    mine, theirs = values_of(compiled, inputs), values_of(floats, inputs)
    return {a: (theirs[b].float(), mine[a].float())
            for a, b in counterparts(compiled, floats).items()
            if a in mine and b in theirs and mine[a].shape == theirs[b].shape
            and theirs[b].is_floating_point()}


@dataclass(frozen=True)
class Histogram:
    """How often values lie in each of equal bins from `low` to `high`, and the integers' range."""

    low: float
    high: float
    counts: tuple[int, ...]
    range_low: float
    range_high: float


def histogram_of(node: Node, values: Tensor) -> Histogram | None:
    """The float values of a node whose results are integers, beside the range it got."""
    format_ = qparams(node)
    if format_ is None or not values.numel():
        return None
    low, high = (float(v) for v in torch.aminmax(values))
    counts = torch.histc(values, _BINS, low, high) if high > low else torch.zeros(_BINS)
    return Histogram(low, high, tuple(int(c) for c in counts), *format_.bounds())
