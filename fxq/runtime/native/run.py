"""The runtime of `target="native"`: programs, and torch between them where they have no kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxq.ir.facts import info
from fxq.kernels.native.assembly import Assembly
from fxq.runtime.native.assemble import assemble
from fxq.runtime.native.program import Segment
from fxq.runtime.native.segments import Part, parts_of, read_batch_from_input, with_calls
from fxq.runtime.native.steps import Unplanned
from fxq.runtime.python import Function, build


def build_native(module: fx.GraphModule) -> Function:
    """A function of the graph's flat inputs that returns its flat outputs."""
    read_batch_from_input(module.graph)
    parts = parts_of(module.graph)
    calls = [Segment(module, part) for part in parts]
    if len(parts) == 1 and _is_all(module.graph, parts[0]):
        return calls[0]
    return build(with_calls(module, parts, calls))  # type: ignore[arg-type]


def seen(module: fx.GraphModule, inputs: Sequence[Tensor]) -> list[tuple[Segment, Any]]:
    """Parts that run as programs for such inputs, made anew, each with the tensors that it gets."""
    parts, tensors = parts_of(module.graph), dict[Segment, Any]()
    segments = [Segment(module, part) for part in parts]

    def spy(segment: Segment) -> Function:
        def call(*given: Tensor) -> tuple[Tensor, ...]:
            tensors[segment] = given
            return segment(*given)
        return call

    with torch.no_grad():
        shell: Any = with_calls(module, parts, [spy(s) for s in segments])
        build(shell)(*inputs)
    return [(s, tensors[s]) for s in segments if not s.reason]


def program_of(module: fx.GraphModule) -> Assembly | None:
    """The program for inputs like the example's, where one is all of a LOWERED graph."""
    parts = parts_of(module.graph)
    if len(parts) != 1 or parts[0].rows or parts[0].matrices or not _is_all(module.graph, parts[0]):
        return None
    inputs = [torch.zeros(info(n).shape or (), dtype=info(n).dtype) for n in parts[0].inputs]
    try:
        plan = Segment(module, parts[0]).plan(inputs)
    except Unplanned:
        return None
    return assemble(plan, len(inputs))


def _is_all(graph: fx.Graph, part: Part) -> bool:
    """The part takes what the graph takes, and gives what it gives."""
    takes = tuple(n for n in graph.nodes if n.op == "placeholder")
    output = next(n for n in graph.nodes if n.op == "output")
    return part.inputs == takes and part.outputs == tuple(output.args[0])
