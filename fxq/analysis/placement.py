"""Decide which nodes compute on integers, and why each other one stays in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.float_reasons import Reason, kernel_or_why_not
from fxq.analysis.overrides import scheme_of
from fxq.analysis.regions import losing
from fxq.ir.facts import info, tensor_inputs, why_untraceable
from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import constant_of
from fxq.kernels.calls import get_call
from fxq.kernels.lookup_tables import FLOAT, choose
from fxq.kernels.rows import Kernel
from fxq.quantization.schemes import Mode

# A kernel averages at the scale of its input. Below this many steps the rounding noise of the
# average (step / sqrt(12), against an even spread) comes within 24 dB of the signal.
FEWEST_STEPS = 16


@dataclass(frozen=True)
class Placement:
    """Where each node computes.

    `float_output` are integer nodes whose kernel gives float results, because nothing reads
    them as integers; `dynamic` nodes round their float input at run time, `weight_only` nodes
    compute in float with integer weights; `reasons` has (code, sentence) for each operator that
    stays in float, `rows` the kernel of each integer or dynamic one.
    """

    integer: frozenset[Node]
    float_output: frozenset[Node]
    reasons: dict[Node, Reason]
    dynamic: frozenset[Node] = frozenset()
    weight_only: frozenset[Node] = frozenset()
    rows: Mapping[Node, Kernel] = field(default_factory=dict)


def place(module: fx.GraphModule, context: Context,
          refused: Mapping[Node, Reason] = MappingProxyType({})) -> Placement:
    """Walk the FUSED graph once, in order: a node may rely on where its producers are.

    `refused` are nodes that must stay in float for the reasons given.
    """
    integer: set[Node] = set()
    reasons: dict[Node, Reason] = {}
    rows: dict[Node, Kernel] = {}
    others: dict[Mode, set[Node]] = {Mode.DYNAMIC: set(), Mode.WEIGHT_ONLY: set()}
    for node in module.graph.nodes:
        skipped = node.op in ("placeholder", "output", "get_attr")
        if skipped or not (info(node).is_float_tensor or why_untraceable(node)):
            continue
        mode = scheme_of(node, context.scheme).mode
        row, reason = kernel_or_why_not(node, mode, integer, context)
        if row is not None:
            rows[node] = row
        reason = refused.get(node, reason)
        if reason:
            reasons[node] = reason
        if mode is Mode.STATIC and not reason:
            integer.add(node)
        elif mode in others and node not in refused and _has_integer_weight(node, mode, reason):
            others[mode].add(node)
    while _join_quantized_inputs(integer, reasons):
        pass
    _keep_unread_functions_in_float(module, integer, reasons, rows, context)
    if context.scheme.float_averages:
        _keep_averages_in_float(module, integer, reasons, rows)
        _keep_fine_averages_in_float(module, integer, reasons, rows, context)
    slower = losing(module, integer, _float_outputs(integer, rows), context)
    integer.difference_update(slower)
    reasons |= slower
    reasons = {n: reasons[n] for n in module.graph.nodes if n in reasons}  # in the graph's order
    dynamic, weight_only = map(frozenset, others.values())
    return Placement(frozenset(integer), _float_outputs(integer, rows), reasons, dynamic,
                     weight_only, {n: row for n, row in rows.items() if n in integer | dynamic})


def _has_integer_weight(node: Node, mode: Mode, reason: Reason | None) -> bool:
    """A dynamic layer that nothing speaks against, or any layer whose weight is stored."""
    op = op_of(node)
    layer = op is not None and op.kind is Kind.MAC and constant_of(node.args[1]) is not None
    return layer and (mode is Mode.WEIGHT_ONLY or reason is None)


def _join_quantized_inputs(integer: set[Node], reasons: dict[Node, Reason]) -> bool:
    """Nodes whose float inputs become integers for another reader anyway compute on them too."""
    joining = [n for n, (code, _) in reasons.items() if code == "float-input" and all(
        source in integer or any(u in integer for u in source.users)
        for source in tensor_inputs(n))]
    for node in joining:
        del reasons[node]
    integer.update(joining)
    return bool(joining)


def _keep_unread_functions_in_float(module: fx.GraphModule, integer: set[Node],
                                    reasons: dict[Node, Reason], rows: Mapping[Node, Kernel],
                                    context: Context) -> None:
    """Functions without a kernel whose result nobody reads as integers: rounding buys nothing."""
    for node in reversed(module.graph.nodes):
        if node not in integer or get_call(rows[node].call).form != "function":
            continue
        if not any(u in integer for u in node.users):
            integer.discard(node)
            reasons[node] = ("float-output", "it has no kernel, and its result is read in float")
        elif not context.target.plain and _layer_gives_float(node, integer, rows) and choose(
                node, context.target.costs).way == FLOAT:
            integer.discard(node)
            reasons[node] = ("float-input", "the layer before it gives float without a cast")


def _layer_gives_float(node: Node, integer: set[Node], rows: Mapping[Node, Kernel]) -> bool:
    """The function is all that reads a layer whose kernel can skip the rounding in between."""
    source = node.args[0]
    return isinstance(source, Node) and source in integer and set(source.users) == {node} and bool(
        rows[source].float_call)


def _keep_averages_in_float(module: fx.GraphModule, integer: set[Node],
                            reasons: dict[Node, Reason], rows: Mapping[Node, Kernel]) -> None:
    """Averages that no integer node reads: they would lose bits, and nothing would be won.

    Logits are often averages; with the scale of their inputs many of them would tie. A kernel
    that gives float keeps all bits; what only reshapes its result computes nothing.
    """
    for node in reversed(module.graph.nodes):
        average = average_behind(node) if node in integer else None
        if average is None or any(u in integer for u in node.users):
            continue
        gives_float = average in rows and bool(rows[average].float_call)
        if gives_float and average is node:
            continue
        integer.discard(node)
        if not gives_float:
            reasons[node] = ("average", "its average has more than 8 bits, and is read in float")


def _keep_fine_averages_in_float(module: fx.GraphModule, integer: set[Node],
                                 reasons: dict[Node, Reason], rows: Mapping[Node, Kernel],
                                 context: Context) -> None:
    """Averages so much narrower than what they average that few integers would be left."""
    for node in module.graph.nodes:
        if node not in integer or not _averages(node) or rescales(rows.get(node)):
            continue
        source = node.args[0]
        whole, average = (spread_of(n, context) for n in (source, node))
        spec = scheme_of(node, context.scheme).activation
        levels = spec.high - spec.low
        if whole and average is not None and average / whole * levels < FEWEST_STEPS:
            integer.discard(node)
            reasons[node] = ("average", "its average spans too few steps of its input's scale")


def spread_of(node: Any, context: Context) -> float | None:
    """How far apart the observed extremes of a value are, zero included."""
    known = context.statistics.get(info(node).value)
    if known is None or not known.seen:
        return None
    return max(known.maximum, 0.0) - min(known.minimum, 0.0)


def rescales(row: Kernel | None) -> bool:
    """The call averages into a format of its own, not at the scale of its input."""
    return row is not None and get_call(row.call).form == "average"


def _averages(node: Node) -> bool:
    op = op_of(node)
    return op is not None and op.averages


def average_behind(node: Node) -> Node | None:
    """The averaging operator that a node is, or that it only reshapes."""
    op = op_of(node)
    if op is not None and op.reshapes and isinstance(node.args[0], Node):
        return average_behind(node.args[0])
    return node if _averages(node) else None


def _float_outputs(integer: set[Node], rows: Mapping[Node, Kernel]) -> frozenset[Node]:
    return frozenset(
        n for n in integer if rows[n].float_call and not any(u in integer for u in n.users)
        and (op := op_of(n)) is not None and op.activation == rows[n].absorbs)
