"""What each node costs in each scheme, and what a whole assignment is predicted to cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import fx
from torch.fx import Node

from fxq.analysis.placement import Placement
from fxq.budget.judge import Judge
from fxq.budget.limits import Assignment, Figures
from fxq.ir.facts import info, tensor_inputs
from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import constant_of, label
from fxq.profiler.first_order import Rounding
from fxq.profiler.sensitivity import Mixtures
from fxq.quantization.schemes import Scheme, get_scheme

FLOAT = "fp32"


@dataclass(frozen=True)
class Table:
    """Microseconds, bytes and noise of parts; to first order, each adds up over an assignment.

    `us` and `bytes` are by (value, scheme), where FLOAT is also what a node has that could not be
    placed on integers; `enter` and `leave` are microseconds of a value that crosses into integers
    and back, `fixed_us` and `fixed_bytes` what no scheme changes. `noise` is the variance that a
    rounding adds to the margin between the two best classes. `float_us` is the float model.
    """

    mixed: Mixtures
    schemes: tuple[str, ...]  # those that a layer may have
    placements: Mapping[str, Placement]  # with all layers in one scheme
    us: Mapping[tuple[str, str], float]
    bytes: Mapping[tuple[str, str], int]
    enter: Mapping[str, float]
    leave: Mapping[str, float]
    noise: Mapping[Rounding, float]
    float_us: float
    judge: Judge | None = None
    fixed_us: float = 0.0
    fixed_bytes: int = 0

    @property
    def base(self) -> str:
        """The scheme of the whole, which needs no override."""
        return self.mixed.context.scheme.name

    @property
    def module(self) -> fx.GraphModule:
        """The FUSED graph."""
        return self.mixed.module

    def scheme(self, name: str) -> Scheme:
        """By its name; the whole one may be the user's own."""
        return self.mixed.context.scheme if name == self.base else get_scheme(name)

    def nodes(self) -> list[Node]:
        """All that compute."""
        return [n for n in self.module.graph.nodes if n.op.startswith("call_")]

    def cost(self, of: Mapping[tuple[str, str], float], node: Node, scheme: str) -> float:
        """A figure of one node; that of float where the scheme leaves it in float."""
        key = info(node).value
        return of.get((key, scheme), of.get((key, FLOAT), 0.0))

    def microseconds(self, assignment: Assignment) -> float:
        """Of a run."""
        placed = self.mixed.placement(assignment)
        total = self.fixed_us + sum(self.cost(self.us, n, self.form(n, assignment, placed))
                                    for n in self.nodes())
        entering, leaving = crossings(self.module, placed.integer, placed.float_output)
        return total + sum(self.enter.get(info(n).value, 0.0) for n in entering) + sum(
            self.leave.get(info(n).value, 0.0) for n in leaving)

    def size(self, assignment: Assignment) -> int:
        """Bytes of parameters."""
        placed = self.mixed.placement(assignment)
        return self.fixed_bytes + int(sum(
            self.cost(self.bytes, n, self.form(n, assignment, placed)) for n in self.nodes()))

    def variance(self, assignment: Assignment) -> float:
        """Of the noise of the margins."""
        return sum(self.noise.get(r, 0.0) for r in self.mixed.roundings(assignment))

    def figures(self, assignment: Assignment) -> Figures:
        """All that is predicted."""
        us = self.microseconds(assignment)
        drop = self.judge.predicted(self.variance(assignment)) if self.judge else None
        return Figures(us / 1e3, self.float_us / us, self.size(assignment), drop)

    def form(self, node: Node, assignment: Assignment, placed: Placement) -> str:
        """The scheme by which a node really computes."""
        if node not in placed.integer | placed.dynamic | placed.weight_only:
            return FLOAT
        return assignment.get(label(node), self.base) if is_layer(node) else self.base


def is_layer(node: Node) -> bool:
    """A convolution or linear layer with weights of its own: what a scheme is chosen for."""
    op = op_of(node)
    return op is not None and op.kind is Kind.MAC and constant_of(node.args[1]) is not None


def crossings(module: fx.GraphModule, integer: Collection[Node],
              float_output: Collection[Node]) -> tuple[list[Node], list[Node]]:
    """(values that are rounded for their readers, integers that somebody reads as float)."""
    made = set(integer) - set(float_output)
    entering = dict.fromkeys(s for n in module.graph.nodes if n in integer
                             for s in activations(n) if s not in made)
    leaving = [n for n in module.graph.nodes if n in made and any(
        u not in integer and (op := op_of(u), op is None or op.kind is not Kind.SHAPE)[1]
        for u in n.users)]
    return list(entering), leaving


def activations(node: Node) -> Sequence[Node]:
    """What a node reads that is no constant."""
    return [s for s in tensor_inputs(node) if constant_of(s) is None]
