"""Which values may have their channels scaled, all of them together, and how far channels reach.

A layer's batch norm says how its channels are spread before any data is seen: mean β, deviation |γ|
(Nagel et al. 2019, "Data-Free Quantization", section 4.2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.ir.facts import info, unfolded
from fxq.ir.ops import Kind, attribute, base_name, groups_of, op_of
from fxq.ir.rewriter import constant_of

# How far from its mean a channel may go. On 96 images, half of the channels of MobileNetV2's values
# stay within 4 to 7 deviations, and nine in ten within 5 to 15. With activations rounded alone, 6
# is better there than 8, by 0.4 dB.
DEVIATIONS = 6.0


@dataclass(frozen=True)
class Spread:
    """Mean and deviation of each channel of a value, in float64, before its activation."""

    mean: Tensor
    deviation: Tensor

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.mean + other.mean, (self.deviation**2 + other.deviation**2).sqrt())

    def reach(self, node: Node, count: float) -> Tensor:
        """The largest magnitude of each channel of the node, up to `count` deviations."""
        op = op_of(node)
        high = self.mean + count * self.deviation
        if op is None or not op.activation:
            return torch.maximum(high, count * self.deviation - self.mean)
        top = attribute(node, "max") if op.activation == "clamp" else None
        return high.clamp(min=0.0, max=top)


@dataclass(frozen=True)
class Family:
    """Values whose channels must have the same factors: who makes them and who reads them."""

    values: tuple[Node, ...]
    makers: tuple[Node, ...]  # layers
    readers: tuple[Node, ...]  # layers


def spreads(module: fx.GraphModule) -> dict[Node, Spread]:
    """What batch norms tell of the values of a FUSED graph."""
    known: dict[Node, Spread] = {}
    for node in module.graph.nodes:
        found = _spread(node, known)
        if found is not None:
            known[node] = found
    return known


def _spread(node: Node, known: Mapping[Node, Spread]) -> Spread | None:
    origin = unfolded(node)
    if origin is not None and _is_layer(node):
        norm = origin.norm
        weight = torch.ones_like(norm.mean) if norm.weight is None else norm.weight
        bias = torch.zeros_like(norm.mean) if norm.bias is None else norm.bias
        return Spread(bias.detach().double(), weight.detach().double().abs())
    parts = [known.get(n) for n in node.args[:2] if isinstance(n, Node)]
    if base_name(node) == "add" and len(parts) == 2 and parts[0] and parts[1]:
        return parts[0] + parts[1]
    return parts[0] if _is_pool(node) else None


def families(module: fx.GraphModule) -> Iterator[Family]:
    """Each set of values that can be scaled together, as all who make and read them allow it."""
    for values in _connected(module.graph.nodes, _joined):
        makers = [n for n in values if not _joined(n)]
        readers = [(u, n) for n in values for u in n.users if u not in values]
        if readers and all(map(_is_layer, makers)) and all(_reads(u, n) for u, n in readers):
            layers = tuple(dict.fromkeys(u for u, _ in readers))
            yield Family(tuple(values), tuple(makers), layers)


def _connected(nodes: Iterable[Node], joined: Callable[[Node], list[Node]]) -> list[list[Node]]:
    """The nodes in sets: each is in that of the nodes that it is joined with."""
    sets: dict[Node, list[Node]] = {}
    for node in nodes:
        sets[node] = [node]
        for source in joined(node):
            if sets[source] is not sets[node]:
                larger, smaller = sets[source], sets[node]
                larger += smaller
                sets |= dict.fromkeys(smaller, larger)
    return list({id(members): members for members in sets.values()}.values())


def _joined(node: Node) -> list[Node]:
    """The operands that a node only adds or selects from, channel by channel."""
    if _is_pool(node):
        return [node.args[0]]  # type: ignore[list-item]
    parts = [n for n in node.args if isinstance(n, Node)]
    same = base_name(node) == "add" and op_of(node).activation != "clamp" and len(parts) == 2 and (  # type: ignore[union-attr]
        len({info(n).shape for n in (*parts, node)}) == 1)
    return parts if same else []


def _is_pool(node: Node) -> bool:
    """It selects or averages within each channel: a positive factor passes through."""
    op = op_of(node)
    return op is not None and op.kind is Kind.SAME and op.rank > 0


def _is_layer(node: Node) -> bool:
    op = op_of(node)
    return op is not None and op.kind is Kind.MAC and len(node.args) == 3 and (
        constant_of(node.args[1]) is not None) and (
        node.args[2] is None or constant_of(node.args[2]) is not None)


def _reads(layer: Node, value: Node) -> bool:
    """The layer's input channels are the second dimension of the value."""
    if not _is_layer(layer) or layer.args[0] is not value or layer.args.count(value) != 1:
        return False
    op = op_of(layer)
    shape = info(value).shape or ()
    return op is not None and not op.transposed and (bool(op.rank) or len(shape) == 2)


def activations(family: Family) -> set[str]:
    """The activations that the values of a family went through; "" for linear ones."""
    return {op.activation.removeprefix("add_") for n in family.values if (op := op_of(n))}


def is_depthwise(layer: Node) -> bool:
    """Each output channel reads one input channel."""
    weight = constant_of(layer.args[1])
    return weight is not None and groups_of(layer) > 1 and weight.shape[1] == 1
