"""Run a graph from a file without data: shapes and types must be what the file says.

On torch's meta device nothing is computed or allocated, and impossible shapes, strides or groups
are Python errors there, where a kernel might crash. `shapes.py` says the common operators' shapes
itself, which loads a file in a fresh process a second sooner.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.artifact.meta_shapes import RULES
from fxq.errors import ArtifactError
from fxq.ir import integers
from fxq.ir.facts import Info, info, qparams
from fxq.ir.ops import Kind, attributes, op_of
from fxq.ir.stages import Stage, verify_stage

LARGEST_INPUT = 1 << 27  # elements
_POSITIVE, _NATURAL = ("stride", "dilation", "groups", "kernel_size"), ("padding", "output_padding")


def _run(module: fx.GraphModule) -> None:
    """Run all nodes on shapes only and compare with what each node says of itself."""
    values: dict[Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            values[node] = _input(node)
        elif node.op == "get_attr":
            values[node] = module.get_buffer(str(node.target)).to("meta")
        elif node.op != "output":
            values[node] = _result(node, values)
        _compare(values.get(node), info(node))


def _result(node: Node, values: dict[Node, Any]) -> Any:
    args: Any = fx.map_arg(node.args, values.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, values.__getitem__)
    known, target = info(node), node.target
    if isinstance(target, str):
        target = getattr(Tensor, target)
    rule = RULES.get(target)
    made = rule(*args, **kwargs) if rule else None
    if made is not None:
        return made
    try:
        return target(*args, **kwargs)
    except NotImplementedError:  # torch has no shape rule for it: take the file's word
        assert known.shape is not None and known.dtype is not None
        return torch.empty(known.shape, dtype=known.dtype, device="meta")


def _compare(value: Any, known: Info) -> None:
    said = (known.shape, known.dtype)
    if isinstance(value, Tensor) and (tuple(value.shape), value.dtype) != said:
        raise ValueError(f"it says {said[0]} of {said[1]}, and makes {tuple(value.shape)} of "
                         f"{value.dtype}")


def validate(module: fx.GraphModule, stage: Stage) -> None:
    """Raise ArtifactError unless every node can be run and is what it says."""
    try:
        for node in module.graph.nodes:
            _check_numbers(node)
        with torch.no_grad():
            _run(module)
        verify_stage(module, stage)
    except ArtifactError:
        raise
    except Exception as error:  # whatever a broken graph raises, it is the file's fault
        text = str(error).strip().split("\n")[0]
        raise ArtifactError("the graph of this file cannot be run", why=text[:300]) from error


def _input(node: Node) -> Tensor:
    known = info(node)
    if known.shape is None or known.dtype is None or math.prod(known.shape) > LARGEST_INPUT:
        raise ArtifactError("an input has no shape, or an impossible one")
    return torch.empty(known.shape, dtype=known.dtype, device="meta")


def _check_numbers(node: Node) -> None:
    """Sizes that kernels trust: positive strides, sane padding, formats that hold the zero."""
    op = op_of(node)
    if op is not None and (op.kind is Kind.MAC or "pool" in op.name):
        for key, value in attributes(node).items():
            numbers = value if isinstance(value, tuple | list) else (value,)
            low = 1 if key in _POSITIVE else 0 if key in _NATURAL else None
            if low is not None and not all(v is None or (type(v) is int and low <= v < 2**20)
                                           for v in numbers):
                raise ArtifactError(f"{op.name} has {key}={str(value)[:40]}")
    if node.target in (integers.quantize, integers.dequantize):
        try:
            said = integers.qparams_argument(node)
        except (KeyError, TypeError) as error:
            raise ArtifactError("a quantize has no scale or zero point") from error
        made = qparams(node) if node.target is integers.quantize else qparams(
            node.args[0])  # type: ignore[arg-type]
        if said != made:
            raise ArtifactError(f"a value is kept as {made} and read as {said}")
