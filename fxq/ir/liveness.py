"""When each value of a graph is read for the last time."""

from __future__ import annotations

from torch import fx
from torch.fx import Node


def last_uses(graph: fx.Graph) -> dict[Node, list[Node]]:
    """The values that nobody reads after each node."""
    seen: set[Node] = set()
    dead: dict[Node, list[Node]] = {}
    for node in reversed(graph.nodes):
        inputs = [n for n in node.all_input_nodes if n.op != "get_attr" and n not in seen]
        dead[node] = inputs
        seen.update(inputs)
    return dead
