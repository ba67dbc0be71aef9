"""Regions on integers whose borders cost more than their kernels gain: float computes them faster.

A region is what integers flow through without a float operator in between, together with all that
reads the same float values, which are converted once. It is weighed as a whole, by the cost table
of the target and the shapes of the example; that a user asked for integers by name is respected.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Set

from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.float_reasons import Reason
from fxq.analysis.overrides import scheme_of
from fxq.ir.facts import info, tensor_inputs
from fxq.ir.ops import Kind, attribute, op_of
from fxq.ir.rewriter import constant_of
from fxq.ir.sizes import macs, products
from fxq.kernels.region_costs import RegionCosts, Work

CODE = "cost"


def losing(module: fx.GraphModule, integer: Collection[Node], float_outputs: Collection[Node],
           context: Context) -> dict[Node, Reason]:
    """The nodes that are faster in float, each with its reason; `float_outputs` need no cast."""
    costs, found = context.target.regions, dict[Node, Reason]()
    if costs is None or context.given.complete or not _has_bytes(context):
        return found
    for region in regions(module, frozenset(integer)):
        if any(scheme_of(n, context.scheme) is not context.scheme for n in region):
            continue
        floats, integers = nanoseconds(region, float_outputs, costs)
        if integers - floats > costs.least_loss:
            found |= dict.fromkeys(region, (CODE, (
                f"by the cost table its region takes {floats / 1e3:.0f} µs in float, and "
                f"{integers / 1e3:.0f} µs on integers with their casts")))
    return found


def _has_bytes(context: Context) -> bool:
    """Costs are those of 8 bits; other widths have no kernels, and are asked for their numbers."""
    return context.scheme.weight.bits == context.scheme.activation.bits == 8


def regions(module: fx.GraphModule, integer: Set[Node]) -> Iterator[list[Node]]:
    """The regions of a graph, in its order."""
    done: set[Node] = set()
    for start in module.graph.nodes:
        if start not in integer or start in done:
            continue
        region, pending = [], [start]
        done.add(start)
        while pending:
            region.append(node := pending.pop())
            near = [u for source in _sources(node) for u in (source, *source.users)]
            new = dict.fromkeys(n for n in (*near, *node.users) if n in integer and n not in done)
            done.update(new)
            pending += new
        yield region


def nanoseconds(region: Collection[Node], float_outputs: Collection[Node],
                costs: RegionCosts) -> tuple[float, float]:
    """(in float, on integers with all casts at the region's borders)."""
    floats = sum(_work(n, costs.floats) + costs.floats.call for n in region if not _is_view(n))
    integers = costs.integers.call + sum(
        _work(n, costs.integers) for n in region if not _is_view(n))
    entering = dict.fromkeys(s for n in region for s in _sources(n) if s not in region)
    integers += costs.enter * sum(map(_elements, entering))
    for node in region:
        if any(u not in region for u in node.users):
            cast = 0 if node in float_outputs else costs.leave
            integers += (cast + costs.output) * _elements(node)
    return floats, integers


def _work(node: Node, costs: Work) -> float:
    op = op_of(node)
    if op is None or op.kind is not Kind.MAC:
        return costs.of(products(node), False, _elements(node), 0)
    weight = constant_of(node.args[1])
    grouped = "groups" in op.attributes and attribute(node, "groups") != 1
    return costs.of(macs(node), grouped, _elements(node), 0 if weight is None else weight.numel())


def _is_view(node: Node) -> bool:
    op = op_of(node)
    return op is not None and op.view


def _sources(node: Node) -> list[Node]:
    return [n for n in tensor_inputs(node) if constant_of(n) is None]


def _elements(node: Node) -> int:
    return math.prod(info(node).shape or ())
