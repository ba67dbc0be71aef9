"""The parts of a LOWERED graph that become programs, and the graph of what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx
from torch.fx import Node

from fxq.ir.facts import info
from fxq.ir.op_functions import getitem, size
from fxq.ir.rewriter import is_constant
from fxq.runtime.native.layouts import Layout, layouts
from fxq.runtime.native.takes import takes
from fxq.runtime.python import Shell


@dataclass(frozen=True)
class Part:
    """Nodes that can run as one program; `inputs` and `outputs` are tensors of the caller.

    With `rows`, all dimensions of a value but the last are one: as many images of one pixel. With
    `matrices`, tensors are read and written as they lie.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    rows: bool = False
    matrices: bool = False


def parts_of(graph: fx.Graph) -> list[Part]:
    """The nodes that programs can compute, in as few parts as their dependencies allow.

    A node's level counts the changes of layout on the way to it: nodes of one level and layout
    need nothing of each other but through themselves. Rows are a part for each number of them.
    """
    found, levels = layouts(graph), dict[Node, int]()
    chosen: dict[tuple[int, Layout], list[Node]] = {}
    for node in graph.nodes:
        levels[node] = max((levels[n] + (found[n] is not found[node])
                            for n in node.all_input_nodes), default=0)
        if found[node] is not Layout.TORCH:
            chosen.setdefault((levels[node], found[node]), []).append(node)
    return [_part(part, layout) for (_, layout), nodes in sorted(chosen.items())
            for part in _divided(nodes, layout)]


def _divided(nodes: Sequence[Node], layout: Layout) -> list[list[Node]]:
    if layout is Layout.MATRICES:
        return [[n] for n in nodes]
    return [list(nodes)] if layout is Layout.IMAGE else _connected(nodes)


def _connected(nodes: Sequence[Node]) -> list[list[Node]]:
    """Nodes that share a value: all of them have the same rows, which others need not have."""
    groups: list[set[Node]] = []
    for node in nodes:
        group = {node, *(n for n in node.all_input_nodes if not is_constant(n))}
        for other in [g for g in groups if g & group]:
            groups.remove(other)
            group |= other
        groups.append(group)
    return [[n for n in nodes if n in group] for group in groups]


def _part(nodes: Sequence[Node], layout: Layout) -> Part:
    inside = set(nodes)
    inputs = dict.fromkeys(s for n in nodes for s in n.all_input_nodes
                           if s not in inside and not is_constant(s))
    outputs = (n for n in nodes if any(u not in inside for u in n.users))
    rows = layout in (Layout.ROWS, Layout.TENSOR)
    return Part(tuple(nodes), tuple(inputs), tuple(outputs), rows, layout is Layout.MATRICES)


def read_batch_from_input(graph: fx.Graph) -> None:
    """Sizes of the batch are read where no program hides the value: from an input of the graph."""
    first = next((n for n in graph.nodes if n.op == "placeholder"), None)
    for node in graph.nodes:
        if node.target is not size or node.kwargs.get("dim") != 0 or first is None:
            continue
        shapes = info(node.args[0]).shape, info(first).shape
        if takes(node.args[0]) and shapes[0] and shapes[1] and shapes[0][0] == shapes[1][0]:
            node.update_arg(0, first)


def with_calls(module: fx.GraphModule, parts: Sequence[Part],
               calls: Sequence[Callable[..., Any]]) -> Shell:
    """The graph in which each part is one call that gives the tuple of its outputs."""
    graph, inside = fx.Graph(), {n: i for i, p in enumerate(parts) for n in p.nodes}
    twins: dict[Node, Node] = {}

    def write(index: int) -> None:
        part = parts[index]
        call = graph.call_function(calls[index], tuple(twins[n] for n in part.inputs))
        for position, node in enumerate(part.outputs):
            twins[node] = graph.call_function(getitem, (call,), {"index": position})

    def visit(node: Node) -> None:
        stack = [node]
        while stack:
            top = stack[-1]
            needs = parts[inside[top]].inputs if top in inside else top.all_input_nodes
            missing = [n for n in needs if n not in twins]
            if missing:
                stack += missing
                continue
            stack.pop()
            if top in twins:
                continue
            if top in inside:
                write(inside[top])
            else:
                twins[top] = graph.node_copy(top, lambda n: twins[n])

    for node in module.graph.nodes:
        if node.op in ("placeholder", "output"):
            visit(node)
    return Shell(module, graph, twins)


def alone(module: fx.GraphModule, part: Part) -> Shell:
    """The part as a graph of its own, for inputs that no program takes."""
    graph = fx.Graph()
    twins = {n: graph.placeholder(f"input_{i}") for i, n in enumerate(part.inputs)}
    for node in part.nodes:
        for constant in node.all_input_nodes:
            if constant not in twins:
                twins[constant] = graph.node_copy(constant)
        twins[node] = graph.node_copy(node, lambda n: twins[n])
    graph.output(tuple(twins[n] for n in part.outputs))
    return Shell(module, graph, twins)
