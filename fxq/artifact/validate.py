"""Run a graph from a file without data: calls, shapes, types and sizes must be what they may be.

On torch's meta device nothing is computed or allocated, and impossible shapes, strides or groups
are Python errors there, where a kernel might crash. `shapes.py` says the common operators' shapes
itself, which loads a file in a fresh process a second sooner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.artifact.bounds import LARGEST_INPUT
from fxq.artifact.forms import refusal
from fxq.artifact.limits import Limited, check_alive, check_before
from fxq.artifact.meta_shapes import RULES
from fxq.errors import ArtifactError
from fxq.ir import integers
from fxq.ir.facts import Info, info, qparams
from fxq.ir.liveness import last_uses
from fxq.ir.stages import Stage, verify_stage
from fxq.kernels.needs import why_not_table, why_not_weight

Values = dict[Node, Any]


def validate(module: fx.GraphModule, stage: Stage) -> None:
    """Raise ArtifactError unless every node can be run and is what it says."""
    inputs = [_input(n) for n in module.graph.nodes if n.op == "placeholder"]
    if sum(x.numel() for x in inputs) > LARGEST_INPUT:
        raise ArtifactError("the inputs are larger than any that fxq reads")
    limited, values = Limited(inputs), Values()
    with torch.no_grad():
        _each(module, lambda node: _run(node, module, values, limited))
    try:
        dead = last_uses(module.graph)
        check_alive({n: dead[n] for n in module.graph.nodes}, values, limited.most)
        verify_stage(module, stage)
    except ArtifactError:
        raise
    except Exception as error:  # whatever a broken graph raises, it is the file's fault
        raise _unfit(error) from error


def _each(module: fx.GraphModule, check: Callable[[Node], None]) -> None:
    for position, node in enumerate(module.graph.nodes):
        try:
            check(node)
        except ArtifactError:
            raise
        except Exception as error:  # as above
            raise _unfit(error, position) from error


def _unfit(error: Exception, position: int | None = None) -> ArtifactError:
    where = "" if position is None else f"node {position}: "
    text = (str(error) or type(error).__name__).strip().split("\n")[0]
    return ArtifactError("the graph of this file cannot be run", why=f"{where}{text}"[:300])


def _input(node: Node) -> Tensor:
    known = info(node)
    if known.shape is None or known.dtype is None or math.prod(known.shape) > LARGEST_INPUT:
        raise ArtifactError("an input has no shape, or an impossible one")
    return torch.empty(known.shape, dtype=known.dtype, device="meta")


def _run(node: Node, module: fx.GraphModule, values: Values, limited: Limited) -> None:
    """Run one node on shapes only and compare with what it says of itself."""
    if node.op == "placeholder":
        values[node] = _input(node)
    elif node.op == "get_attr":
        values[node] = module.get_buffer(str(node.target)).to("meta")
    elif node.op != "output":
        values[node] = limited.checked(_result(node, values, limited))
        _check_formats(node)
    _compare(values.get(node), info(node))


def _result(node: Node, values: Values, limited: Limited) -> Any:
    args: Any = fx.map_arg(node.args, values.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, values.__getitem__)
    target: Any = node.target
    name = getattr(target, "__name__", target)
    reason = refusal(target, args, kwargs) if node.all_input_nodes else "it reads nothing computed"
    if reason:
        raise ValueError(f"{name} is called in a way that no file may: {reason}")
    check_before(target, args, kwargs)
    rule = RULES.get(target)
    made = rule(*args, **kwargs) if rule else None
    if made is not None:
        return made
    return limited.ask(getattr(Tensor, target) if isinstance(target, str) else target, args, kwargs)


def _compare(value: Any, known: Info) -> None:
    made = (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else (None, None)
    said = (known.shape, known.dtype)
    if made != said:
        raise ValueError(f"it says {said[0]} of {said[1]}, and makes {made[0]} of {made[1]}")


def _check_formats(node: Node) -> None:
    """Scales and zero points that are such, and one format for one value."""
    if node.target is integers.dequantize_weight:
        reason = why_not_weight(node)
        if reason:
            raise ArtifactError("a weight cannot be dequantized", why=reason)
    if node.target is integers.quantize and len(node.args) > 1:
        reason = why_not_table(node)
        if reason:
            raise ArtifactError("a function cannot be looked up", why=reason)
    if node.target in (integers.quantize, integers.dequantize):
        said = integers.qparams_argument(node)
        made = qparams(node) if node.target is integers.quantize else qparams(
            node.args[0])  # type: ignore[arg-type]
        if said != made:
            raise ArtifactError(f"a value is kept as {made} and read as {said}")
