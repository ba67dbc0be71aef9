"""What goes into an exported graph and comes out of it, with sizes that are free."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from fxq.export.draft import Port
from fxq.ir.facts import info
from fxq.runtime.shape_program import ShapeProgram, shape_program
from fxq.runtime.shape_steps import Refused

BATCH = "batch"
Shape = tuple[int, ...]


def ports(module: fx.GraphModule, inputs: list[str],
          outputs: list[str]) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs; the batch is free where the graph takes another than the example's."""
    program = shape_program(module)
    now = [shape for shape, _ in program.inputs]
    later = [_one_more(shape, now[0]) for shape in now]
    then = _outputs(program, later)
    if then is None:
        later, then = now, _outputs(program, now) or []
    returned: Any = next(n for n in module.graph.nodes if n.op == "output").args[0]
    types = [info(n).dtype or torch.float32 for n in returned]
    here = _outputs(program, now) or []
    return ([Port(name, dtype, _sizes(a, b, name, now[0])) for name, (a, dtype), b in zip(
                inputs, program.inputs, later, strict=True)],
            [Port(name, dtype, _sizes(a, b, name, now[0])) for name, dtype, a, b in zip(
                outputs, types, here, then, strict=True)])


def _one_more(shape: Shape, first: Shape) -> Shape:
    """The shape in a batch with one image more."""
    batch = first[:1]
    return (shape[0] + 1, *shape[1:]) if shape and shape[:1] == batch else shape


def _outputs(program: ShapeProgram, shapes: list[Shape]) -> list[Shape | None] | None:
    """The outputs' shapes, None where only a call can tell; None for inputs that are refused."""
    try:
        found = program.run(shapes).outputs
    except Refused:
        return None
    return [tuple(v.shape) if isinstance(v, Tensor) else None for v in found]


def _sizes(now: Shape | None, later: Shape | None, name: str,
           first: Shape) -> tuple[int | str, ...] | None:
    """A text for each size that the batch changes: its own name for what is not the batch."""
    if now is None or later is None:
        return None
    batch = (first[:1], tuple(n + 1 for n in first[:1]))
    return tuple(a if a == b else BATCH if ((a,), (b,)) == batch else f"{name}_size{i}"
                 for i, (a, b) in enumerate(zip(now, later, strict=True)))
