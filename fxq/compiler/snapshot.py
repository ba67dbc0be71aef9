"""A graph as it was before a pass, cheap to take, and the first value that a pass has changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node
from torch.fx.node import map_arg

from fxq.compiler.verify import close, equal
from fxq.ir.facts import info
from fxq.ir.graph_module import attribute_at, copied
from fxq.ir.stages import Effect
from fxq.system.torch_state import quiet


@dataclass(frozen=True)
class Snapshot:
    """A copy of a graph, and the tensors and modules that it names (not copied).

    `names` are those of the nodes, `held` the tensors with torch's counts of writes into them.
    """

    graph: fx.Graph
    root: nn.Module
    names: tuple[str, ...]
    held: Mapping[str, tuple[Any, int]]

    def graph_module(self) -> fx.GraphModule:
        """The graph as a module that can be run."""
        return fx.GraphModule(self.root, self.graph)

    def computes_the_same(self, module: fx.GraphModule) -> bool:
        """The same calls of the same nodes on the same tensors, which nobody has written into.

        Then the graph need not be run to know its numbers. What is changed behind torch's back
        (through `.data`) shows at the next pass that changes the graph.
        """
        if self.names != tuple(n.name for n in module.graph.nodes):
            return False
        held = _held(module)
        return _calls(self.graph) == _calls(module.graph) and held.keys() == self.held.keys() and (
            all(value is self.held[name][0] and writes == self.held[name][1]
                for name, (value, writes) in held.items()))


def snapshot_of(module: fx.GraphModule) -> Snapshot:
    """Copy the nodes; share everything else."""
    root, graph = copied(module)
    return Snapshot(graph, root, tuple(n.name for n in module.graph.nodes), _held(module))


def _calls(graph: fx.Graph) -> list[tuple[str, Any, str]]:
    """What each node does; operands are named by their places."""
    places = {node: place for place, node in enumerate(graph.nodes)}
    return [(n.op, n.target, repr(map_arg((n.args, n.kwargs), lambda a: ("node", places[a]))))
            for n in graph.nodes]


def _held(module: fx.GraphModule) -> dict[str, tuple[Any, int]]:
    """The constants and modules that nodes name, and the tensors of such modules."""
    found: dict[str, Any] = {}
    for name in (str(n.target) for n in module.graph.nodes if n.op in ("get_attr", "call_module")):
        value = found[name] = attribute_at(module, name)
        if isinstance(value, nn.Module):
            tensors = (*value.named_parameters(), *value.named_buffers())
            found |= {f"{name}.{inner}": tensor for inner, tensor in tensors}
    return {name: (value, value._version if isinstance(value, Tensor) else 0)
            for name, value in found.items()}


class _Values(fx.Interpreter):
    """Runs a graph and keeps the float values by their canonical keys."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.extra_traceback = False
        self.values: dict[str, tuple[Node, Tensor]] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point() and info(n).value:
            self.values[info(n).value] = (n, value)
        return value


def first_changed(before: Snapshot, after: fx.GraphModule, inputs: Sequence[Tensor],
                  effect: Effect) -> Node | None:
    """The first node after a pass whose value is not what it was; None when none is found."""
    try:
        old, new = _Values(before.root, before.graph), _Values(after, after.graph)
        with torch.no_grad(), quiet():
            old.run(*(x.clone() for x in inputs))  # a graph as traced may write into them
            new.run(*(x.clone() for x in inputs))
    except Exception:  # a graph that cannot be run has no values to compare
        return None
    same = equal if effect is Effect.EXACT else close
    for key, (node, value) in new.values.items():
        known = old.values.get(key)
        if known is not None and not same(known[1], value):
            return node
    return None


def within_own_noise(before: Snapshot, inputs: Sequence[Tensor], old: Sequence[Any],
                     new: Sequence[Any]) -> bool:
    """Two float32 results are as close as both are to float64 on the graph before.

    Networks with badly scaled statistics amplify rounding until nothing of it can be told apart
    from an error; then only a bound that the network itself sets is fair.
    """
    try:
        root = copy.deepcopy(before.root).double()
        exact_run: Any = fx.Interpreter(root, graph=before.graph)
        with torch.no_grad():
            exact = exact_run.run(*(x.double() if x.is_floating_point() else x for x in inputs))
    except Exception:  # packed weights, or operators without float64: no second opinion
        return False
    return all(_distance(a, b) <= 8 * min(_distance(a, e), _distance(b, e))
               for a, b, e in zip(old, new, exact, strict=True)
               if isinstance(a, Tensor) and a.is_floating_point())


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
