"""Layers and residual blocks of a FUSED graph, in forward order.

A graph is cut where a single value is all that later nodes read: between layers in a row, and
between residual blocks, whose shortcuts would cross any cut inside of them (Li et al. 2021,
"BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction", section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx
from torch.fx import Node

from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import label

LAYERS = 8  # more between two cuts (a dense block, a graph of many outputs) are taken one by one
_NO_STEP = ("placeholder", "get_attr", "output")


@dataclass(frozen=True)
class Block:
    """Nodes in a row; `inputs` are the values that they read, `outputs` those that others read."""

    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]

    @property
    def layers(self) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes if is_layer(n))

    def __str__(self) -> str:
        return label(next(iter(self.layers), self.nodes[0]))


def cut(module: fx.GraphModule) -> list[Block]:
    """All computing nodes of a graph, in blocks; each has a layer, but in a graph without any."""
    parts: list[list[Node]] = [[]]
    for part in _between_cuts(module):
        if any(map(is_layer, parts[-1])):
            parts.append([])
        parts[-1] += part
    if len(parts) > 1 and not any(map(is_layer, parts[-1])):
        parts[-2:] = [parts[-2] + parts[-1]]
    return [_block(nodes) for part in parts for nodes in _bounded(part) if nodes]


def is_layer(node: Node) -> bool:
    """A convolution or a linear layer."""
    op = op_of(node)
    return op is not None and op.kind is Kind.MAC


def _between_cuts(module: fx.GraphModule) -> Iterator[list[Node]]:
    place = {n: i for i, n in enumerate(module.graph.nodes)}
    last = {n: max((place[u] for u in n.users if u.op != "output"), default=-1) for n in place
            if n.op not in ("get_attr", "output")}
    live, part = set[Node](), list[Node]()
    for node in last:
        live = {n for n in (*live, node) if last[n] > place[node]}
        if node.op == "placeholder":
            continue
        part.append(node)
        if len(live) <= 1:
            yield part
            part = []
    yield part


def _bounded(part: list[Node]) -> list[list[Node]]:
    """The part, or one for each of its layers where they are many."""
    if sum(map(is_layer, part)) <= LAYERS:
        return [part]
    ends = [i + 1 for i, n in enumerate(part) if is_layer(n)][:-1]
    return [part[a:b] for a, b in zip((0, *ends), (*ends, len(part)), strict=True)]


def _block(nodes: list[Node]) -> Block:
    inside = set(nodes)
    inputs = dict.fromkeys(s for n in nodes for s in n.all_input_nodes
                           if s not in inside and s.op not in _NO_STEP[1:])
    return Block(tuple(nodes), tuple(inputs),
                 tuple(n for n in nodes if any(u not in inside for u in n.users)))
