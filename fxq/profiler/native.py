"""Native programs, timed from inside: the seconds of each step, by the node that it computes.

Called on their own, the functions of the graph are the definition of the arithmetic in float64, and
say nothing about the kernels. So the program runs as it is, and reads a clock after each step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.ir import arithmetic
from fxq.ir.facts import Info, set_info, set_qparams
from fxq.profiler.advice import measured_cast
from fxq.profiler.clock import HostClock, Samples, Side, clocked, side_of
from fxq.quantization.formats import QParams
from fxq.runtime.executable import Executable
from fxq.runtime.native.program import Planned, Segment
from fxq.runtime.native.run import seen
from fxq.runtime.native.segments import with_calls
from fxq.runtime.python import Function, Shell
from fxq.system.timing import Spread

FREE = "free"  # a view, or parts that wrote themselves into a concatenation


class Clocked:
    """A program of its own for one part of a graph; each call keeps the times of its steps."""

    def __init__(self, segment: Segment, tensors: Sequence[Tensor]) -> None:
        self.__name__, self.part, self._through = "program", segment.part, segment.through
        self.linked: Planned = segment.link(tensors)
        self.kernels = self.linked.program.kernels
        self._times: list[tuple[int, int]] = []
        self._profile = self.linked.program.profile
        self.linked.program = self  # type: ignore[assignment]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._through(self.linked, tensors)

    def run(self, pointers: Sequence[int], threads: int) -> None:
        """What the linked program calls in place of a run without clocks."""
        self._times = self._profile(pointers, threads)

    def seconds(self) -> list[float]:
        """Of each step of the last call, as the wall clock ran."""
        return [wall / 1e9 for _, wall in self._times]

    def node_of(self, position: int) -> Node | None:
        """The node that a step computes; None for copies of what the caller gives and gets."""
        node = self.linked.plan.steps[position].node
        return node if node in self.linked.plan.order else None


def side_for(executable: Executable, inputs: Sequence[Tensor]) -> Side:
    """How a linked graph is timed: its native programs from inside, all else call by call."""
    if executable.runtime != "native":
        return side_of(executable.graph_module, inputs)
    found = programs(executable.graph_module, inputs)
    return native_side(executable.graph_module, executable.function, found)


def programs(module: fx.GraphModule, inputs: Sequence[Tensor]) -> list[Clocked]:
    """The programs that run for such inputs; parts that get none run in torch, node by node."""
    return [Clocked(segment, tensors) for segment, tensors in seen(module, inputs)]


def native_side(module: fx.GraphModule, function: Function, found: Sequence[Clocked]) -> Side:
    """A graph that runs as `function`, its programs timed step by step."""
    shell = with_calls(module, [c.part for c in found], found)
    stamps, calls = clocked(shell, HostClock.stamp)  # type: ignore[arg-type]
    nodes = _rows(module, shell, found)
    place = {node: i for i, node in enumerate(nodes)}
    owners = [place[n] for n in _owners(shell, calls)]
    steps = [(c, place[_call(shell, c)], [place.get(c.node_of(i), -1)  # type: ignore[arg-type]
                                          for i in range(len(c.kernels))]) for c in found]

    def timed(*given: Tensor) -> Samples:
        seconds = np.zeros(len(nodes))
        np.add.at(seconds, owners, HostClock.seconds(stamps(*given)))
        for program, call, columns in steps:
            for column, spent in zip(columns, program.seconds(), strict=True):
                if column >= 0:  # else a copy of an input, which stays with the call
                    seconds[column] += spent
                    seconds[call] -= spent
        return seconds

    return Side(nodes, function, timed, _kernels(shell, found), _within(found))


def native_cast(kind: str, shape: tuple[int, ...]) -> Spread:
    """Microseconds of one cast of this shape in a program, or by torch; measured."""
    format_, graph = QParams(0.02, 10), fx.Graph()
    x = graph.placeholder("x")
    integers = graph.call_function(arithmetic.enter, (x,), {
        "multiplier": 1 / format_.scale, "zero": format_.zero_point, "low": 0, "high": 255})
    floats = graph.call_function(arithmetic.leave, (integers,), {
        "zero": format_.zero_point, "scale": format_.scale})
    graph.output((floats,))
    for node, dtype in ((x, torch.float32), (integers, torch.uint8), (floats, torch.float32)):
        set_info(node, Info(shape, dtype))
    set_qparams(integers, format_)
    values = torch.zeros(shape)
    found = programs(fx.GraphModule({}, graph), [values])
    if not found:
        return measured_cast(kind, shape)
    samples = [(found[0](values), found[0].seconds()[kind == "dequantize"])[1] for _ in range(40)]
    return Spread.of(samples[5:], 1e6)  # the first find cold caches


def _rows(module: fx.GraphModule, shell: Shell, found: Sequence[Clocked]) -> list[Node]:
    """All calls of the graph, in order; the call of each program stands before its nodes."""
    first = {c.part.nodes[0]: _call(shell, c) for c in found}
    rows: list[Node] = []
    for node in module.graph.nodes:
        if node.op.startswith("call_"):
            rows += [first[node], node] if node in first else [node]
    return rows


def _call(shell: Shell, program: Clocked) -> Node:
    found: Node = next(n for n in shell.graph.nodes if n.target is program)
    return found


def _owners(shell: Shell, calls: Sequence[Node]) -> list[Node]:
    """The row of each call of the shell: what takes an output of a program apart is its call's."""
    originals = {twin: node for node, twin in shell.twins.items()}
    inside = {id(n.target) for n in calls if isinstance(n.target, Clocked)}

    def owner(node: Node) -> Node:
        if id(node.target) in inside:
            return node
        source = node.args[0] if node.args else None
        if isinstance(source, Node) and id(source.target) in inside:
            return source
        return originals[node]

    return [owner(n) for n in calls]


def _kernels(shell: Shell, found: Sequence[Clocked]) -> dict[Node, str]:
    """The kernels of each node, as the program names them."""
    names: dict[Node, str] = {}
    for program in found:
        names[_call(shell, program)] = "call"
        for position, kernel in enumerate(program.kernels):
            node = program.node_of(position)
            if node is not None and kernel not in names.get(node, ""):
                names[node] = f"{names[node]}, {kernel}" if node in names else kernel
        tables = program.linked.plan.tables
        names |= {n: f"{names[n]} + table" for n in tables if n in names}
        names |= dict.fromkeys(tables.values(), "table in the node before")
        names |= {n: FREE for n in program.part.nodes if n not in names}
    return names


def _within(found: Sequence[Clocked]) -> dict[Node, Node]:
    """The nodes whose function is a table in another one's kernel."""
    return {table: node for c in found for node, table in c.linked.plan.tables.items()}


__all__ = ["Clocked", "native_cast", "native_side", "programs", "side_for"]
