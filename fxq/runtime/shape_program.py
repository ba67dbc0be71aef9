"""The shapes that a graph makes of its inputs' shapes: what the float model refuses, refuses here.

The program is derived from the graph before it is lowered, so a file's graph gives the same one.
Formats are left out: an operator on integers takes and gives the shapes of its float form. The
common operators follow the rules of `artifact/meta_shapes.py`; what these do not cover is computed
on zeros, whose errors are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.artifact.meta_layers import made
from fxq.ir import integers
from fxq.ir.facts import PLACE, info
from fxq.ir.ops import OPS, SPLITTERS
from fxq.ir.rewriter import constant_of, label
from fxq.runtime.shape_steps import NONE, UNKNOWN, Ref, Refused, Shape, Step, fill

_FORMATS = (integers.quantize, integers.dequantize, integers.round_at_run_time,
            integers.clamp_on_integers)
_OWN = ("torch", "fxq", "_operator", "math", "builtins")  # whose functions have no effects


@dataclass(frozen=True)
class Outcome:
    """What a graph gives for some shapes: its outputs, and whether any value has no element."""

    outputs: tuple[Any, ...]
    empty: bool


@dataclass(frozen=True)
class ShapeProgram:
    """A graph's operators on shapes; every value has a place, the inputs the first ones.

    `sources` are the values whose shapes only a call can tell, and their types.
    """

    inputs: tuple[tuple[Shape, torch.dtype], ...]  # those of the example
    constants: Mapping[int, Any]
    sources: Mapping[int, torch.dtype]
    steps: tuple[Step, ...]
    outputs: tuple[Any, ...]
    count: int

    def run(self, shapes: Sequence[Shape], seen: Mapping[int, Shape] = NONE) -> Outcome:
        """The outputs for inputs, and values seen at run time, of these shapes.

        Raises Refused where float would raise; what needs a value not yet seen is UNKNOWN.
        """
        values: list[Any] = [UNKNOWN] * self.count
        for place, (shape, (_, dtype)) in enumerate(zip(shapes, self.inputs, strict=True)):
            values[place] = made(shape, dtype)
        for place, value in self.constants.items():
            values[place] = value
        for place, shape in seen.items():
            values[place] = made(shape, self.sources[place])
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            for step in self.steps:
                values[step.place] = step.result(values)
        computed = (*range(len(self.inputs)), *seen, *(s.place for s in self.steps))
        return Outcome(tuple(fill(v, values) for v in self.outputs),
                       any(_is_empty(values[p]) for p in computed))

    def accepts(self, shapes: Sequence[Shape]) -> bool:
        """The graph takes inputs of these shapes."""
        try:
            self.run(shapes)
        except Refused:
            return False
        return True


def _is_empty(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 0
    return isinstance(value, list | tuple) and any(map(_is_empty, value))


def shape_program(module: fx.GraphModule) -> ShapeProgram:
    """The program of a graph that is not lowered yet, whose nodes know the example's shapes.

    Nodes whose shapes only a call can tell are marked, for `place_of`.
    """
    maker = _Maker(module)
    for node in module.graph.nodes:
        maker.add(node)
    output: Any = next(n for n in module.graph.nodes if n.op == "output").args[0]
    return ShapeProgram(tuple(maker.inputs), maker.constants, maker.sources, tuple(maker.steps),
                        tuple(_refer(output, maker.places)), len(maker.values))


class _Maker:
    """Turns nodes into steps, one after the other, beside their values for the example."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.inputs = [(tuple(info(n).shape or ()), info(n).dtype or torch.float32)
                       for n in module.graph.nodes if n.op == "placeholder"]
        self.places: dict[Node, int] = {}
        self.values: list[Any] = []
        self.constants: dict[int, Any] = {}
        self.sources: dict[int, torch.dtype] = {}
        self.steps: list[Step] = []

    def add(self, node: Node) -> None:
        if node.op == "output":
            return
        if node.target in _FORMATS:
            self.places[node] = self.places[node.args[0]]  # type: ignore[index]
            return
        place = self.places[node] = len(self.values)
        if node.op == "placeholder":
            self.values.append(made(*self.inputs[place]))
        elif node.op == "get_attr":
            self.values.append(_constant(node))
            self.constants[place] = self.values[place]
        else:
            self._add_call(node, place)

    def _add_call(self, node: Node, place: int) -> None:
        step = _step(node, self.places, self.module)
        value = _on_example(step, node, self.values)
        if value is UNKNOWN:
            self._add_source(node, place)
            return
        self.values.append(value)
        if all(self.places[n] in self.constants for n in node.all_input_nodes):
            self.constants[place] = value
        else:
            self.steps.append(_demanding(step, node, value))

    def _add_source(self, node: Node, place: int) -> None:
        known = info(node)
        if known.shape is None or known.dtype is None:
            self.values.append(UNKNOWN)
            return
        self.values.append(made(known.shape, known.dtype))
        self.sources[place] = known.dtype
        PLACE.set(node, place)


def _constant(node: Node) -> Any:
    """Floats by shape alone, so that no weight is kept; integers may be indices, and stay."""
    tensor = constant_of(node)
    if tensor is None:
        return UNKNOWN
    if tensor.is_floating_point() or tensor.dtype in (torch.int8, torch.uint8):
        return made(tensor.shape, tensor.dtype)
    return tensor.detach().cpu()


def _step(node: Node, places: Mapping[Node, int], module: fx.GraphModule) -> Step:
    op = integers.float_op_of(node)
    kwargs = {k: v for k, v in node.kwargs.items() if not (op and k == "zero_point")}
    call = op.call if op else _call_of(node, module)
    return Step(places[node], call, _refer(node.args, places),
                {k: _refer(v, places) for k, v in kwargs.items()}, label(node), info(node).source)


def _call_of(node: Node, module: fx.GraphModule) -> Callable[..., Any] | None:
    """What computes the node; None for the user's own code."""
    call: Any = node.target
    if node.op == "call_module":
        call = module.get_submodule(str(node.target))
    elif node.op == "call_method":
        call = getattr(Tensor, str(node.target))
    home = getattr(type(call) if node.op == "call_module" else call, "__module__", "") or "torch"
    return call if home.split(".")[0] in _OWN else None


def _refer(value: Any, places: Mapping[Node, int]) -> Any:
    if isinstance(value, Node):
        return Ref(places[value])
    if isinstance(value, list | tuple):
        kind = list if isinstance(value, list) else tuple
        return kind([_refer(v, places) for v in value])
    if isinstance(value, slice):
        return slice(*(_refer(v, places) for v in (value.start, value.stop, value.step)))
    return value


def _on_example(step: Step, node: Node, values: list[Any]) -> Any:
    """The value for the example; unknown when shapes alone do not tell what was recorded."""
    try:
        value = step.result(values)
    except Refused:
        return UNKNOWN
    shape = info(node).shape
    told = shape is None or (isinstance(value, Tensor) and tuple(value.shape) == shape)
    return value if told else UNKNOWN


def _demanding(step: Step, node: Node, value: Any) -> Step:
    """The step with what the trace has fixed: the parts that are read, the channels split."""
    if isinstance(value, list | tuple) and node.target in (*SPLITTERS, torch.unbind, "unbind"):
        read = [n.kwargs.get("index", (None, *n.args)[-1]) for n in node.users]
        if all(i in read for i in range(len(value))):
            return replace(step, parts=len(value))
    if step.call is OPS["narrow"].call and node.kwargs.get("dim") == 1:
        source = node.all_input_nodes[0]
        return replace(step, channels=(info(source).shape or (0, 0))[1])
    return step


def place_of(node: Node) -> int | None:
    """The place of a value whose shape only a call can tell, or None."""
    return PLACE.of(node)


__all__ = ["UNKNOWN", "Outcome", "Refused", "ShapeProgram", "place_of", "shape_program"]
