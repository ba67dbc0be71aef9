"""Run a graph from a file without data: shapes and types must be what the file says.

On torch's meta device nothing is computed or allocated, and impossible shapes, strides or groups
are Python errors there, where a kernel might crash.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq import integers
from fxq.errors import ArtifactError
from fxq.info import info, qparams
from fxq.ops import Kind, attributes, op_of
from fxq.qspec import QParams
from fxq.stage import Stage, verify_stage

LARGEST_INPUT = 1 << 27  # elements
_POSITIVE, _NATURAL = ("stride", "dilation", "groups", "kernel_size"), ("padding", "output_padding")


class _Meta(fx.Interpreter):
    """Runs nodes on shapes only and compares with what each node says of itself."""

    def __init__(self, module: fx.GraphModule) -> None:
        shadow = nn.Module()
        for name, tensor in module.named_buffers():
            shadow.register_buffer(name, tensor.to("meta"))
        super().__init__(shadow, graph=module.graph)
        self.extra_traceback = False

    def run_node(self, n: Node) -> Any:
        known = info(n)
        try:
            rule = _SHAPE_RULES.get(n.target) if n.op == "call_function" else None
            operands: Any = self.map_nodes_to_values(n.args, n)
            value = rule(*operands, **n.kwargs) if rule else super().run_node(n)
        except NotImplementedError:  # torch has no shape rule for it: take the file's word
            assert known.shape is not None and known.dtype is not None
            return torch.empty(known.shape, dtype=known.dtype, device="meta")
        said = (known.shape, known.dtype)
        if isinstance(value, Tensor) and n.op != "output" and (
                (tuple(value.shape), value.dtype) != said):
            raise ValueError(f"it says {said[0]} of {said[1]}, and makes {tuple(value.shape)} of "
                             f"{value.dtype}")
        return value


def _like(dtype: torch.dtype | None = None) -> Callable[..., Tensor]:
    def rule(input: Tensor, **attributes: Any) -> Tensor:
        return torch.empty(input.shape, dtype=attributes.get("dtype", dtype) or input.dtype,
                           device="meta")

    return rule


def _quantized(input: Tensor, **attributes: Any) -> Tensor:
    return torch.empty(input.shape, dtype=QParams(**attributes).dtype, device="meta")


def _weight(weight: Tensor, scales: Tensor, zeros: Tensor | None = None, *, axis: int) -> Tensor:
    for entries in (scales, zeros):
        if entries is not None and entries.numel() not in (1, weight.shape[axis]):
            raise ValueError(f"{entries.numel()} scales for {weight.shape[axis]} channels")
    return torch.empty(weight.shape, dtype=torch.float32, device="meta")


# What fxq's own functions make, said directly: torch takes a millisecond for each on its own.
_SHAPE_RULES: dict[Any, Callable[..., Tensor]] = {
    integers.quantize: _quantized, integers.dequantize: _like(torch.float32),
    integers.dequantize_weight: _weight, integers.round_at_run_time: _like(),
    integers.to_dtype: _like(), integers.clamp_on_integers: _like()}


def validate(module: fx.GraphModule, stage: Stage) -> None:
    """Raise ArtifactError unless every node can be run and is what it says."""
    try:
        for node in module.graph.nodes:
            _check_numbers(node)
        with torch.no_grad():
            _Meta(module).run(*_inputs(module))
        verify_stage(module, stage)
    except ArtifactError:
        raise
    except Exception as error:  # whatever a broken graph raises, it is the file's fault
        text = str(error).strip().split("\n")[0]
        raise ArtifactError("the graph of this file cannot be run", why=text[:300]) from error


def _inputs(module: fx.GraphModule) -> list[Tensor]:
    made = []
    for node in module.graph.nodes:
        if node.op == "placeholder":
            known = info(node)
            if known.shape is None or known.dtype is None or math.prod(known.shape) > LARGEST_INPUT:
                raise ArtifactError("an input has no shape, or an impossible one")
            made.append(torch.empty(known.shape, dtype=known.dtype, device="meta"))
    return made


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
