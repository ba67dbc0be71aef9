"""The runtime of `target="native"`: programs, and torch between them where they have no kernel."""

from __future__ import annotations

from torch import fx

from fxq.runtime.native.program import Segment
from fxq.runtime.native.segments import parts_of, read_batch_from_input, with_calls
from fxq.runtime.python import Function, build


def build_native(module: fx.GraphModule) -> Function:
    """A function of the graph's flat inputs that returns its flat outputs."""
    read_batch_from_input(module.graph)
    parts = parts_of(module.graph)
    calls = [Segment(module, part) for part in parts]
    if len(parts) == 1 and _is_all(module.graph, calls[0]):
        return calls[0]
    return build(with_calls(module, parts, calls))  # type: ignore[arg-type]


def _is_all(graph: fx.Graph, call: Segment) -> bool:
    """The part takes what the graph takes, and gives what it gives."""
    takes = tuple(n for n in graph.nodes if n.op == "placeholder")
    output = next(n for n in graph.nodes if n.op == "output")
    return call.part.inputs == takes and call.part.outputs == tuple(output.args[0])
