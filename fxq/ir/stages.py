"""The stages of a graph, and what each may contain: small tables, checked after every pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from torch import fx
from torch.fx import Node

from fxq.errors import VerificationError
from fxq.ir import integers
from fxq.ir.facts import Info, info, qparams, tensor_inputs
from fxq.ir.ops import Kind, op_of
from fxq.ir.printer import format_node
from fxq.ir.stage import Stage as Stage
from fxq.quantization.observer import Observer


@dataclass(frozen=True)
class Legal:
    """What one stage allows beyond plain float operators."""

    fused: bool = False  # conv2d_relu and its kind
    observers: bool = False
    integers: bool = False  # quantize, dequantize and operators on integers
    kernels: bool = False


_LEGAL: dict[Stage, Legal] = {
    Stage.NORMAL: Legal(),
    Stage.FUSED: Legal(fused=True),
    Stage.OBSERVED: Legal(fused=True, observers=True),
    Stage.REFERENCE: Legal(fused=True, integers=True),
    Stage.LOWERED: Legal(fused=True, kernels=True),
}


def verify_stage(module: fx.GraphModule, stage: Stage) -> None:
    """Raise VerificationError unless the graph keeps the rules of its stage."""
    try:
        module.graph.lint()
    except (RuntimeError, AssertionError) as error:
        raise VerificationError(f"the {stage} graph is malformed", why=str(error)) from error
    legal = _LEGAL.get(stage)
    if legal is None:  # FLOAT: whatever torch.fx traced
        return
    for node in module.graph.nodes:
        reason = next((r for check in _CHECKS if (r := check(node, legal))), None)
        if reason:
            raise VerificationError(f"illegal node in a {stage} graph: {reason}",
                                    where=info(node).source, why=format_node(node))


def _check_observer(node: Node, legal: Legal) -> str | None:
    if not legal.observers and _is_observer(node):
        return "observers belong to OBSERVED"
    return None


def _check_fused(node: Node, legal: Legal) -> str | None:
    op = op_of(node)
    return "fused operators come later" if op and op.activation and not legal.fused else None


def _check_domain(node: Node, legal: Legal) -> str | None:
    at_run_time = legal.kernels and node.target is integers.round_at_run_time  # float to float
    if integers.is_integer_node(node) and not legal.integers and not at_run_time:
        return "integer operators belong to REFERENCE"
    if _is_kernel(node) and not legal.kernels:
        return "kernels belong to LOWERED"
    return None


def _check_shape(node: Node, legal: Legal) -> str | None:
    op = op_of(node)
    if op is None or info(node) != Info():
        return None
    return "it has no record of its shape and source"


def _check_no_crossing(node: Node, legal: Legal) -> str | None:
    """Float operators must not read integers."""
    op = op_of(node)
    if legal.kernels or op is None or op.kind is Kind.SHAPE:
        return None
    crossing = [n for n in tensor_inputs(node) if qparams(n) is not None]
    return "a float operator reads a quantized value" if crossing else None


def _check_integer_inputs(node: Node, legal: Legal) -> str | None:
    """A dequantize must undo exactly the format that its input is in."""
    if node.target is not integers.dequantize:
        return None
    source, said = qparams(node.args[0]), integers.qparams_argument(node)  # type: ignore[arg-type]
    return None if source == said else f"it reads {source} as {said}"


_CHECKS: tuple[Callable[[Node, Legal], str | None], ...] = (
    _check_observer, _check_fused, _check_domain, _check_shape, _check_no_crossing,
    _check_integer_inputs)


def _is_kernel(node: Node) -> bool:
    return node.op == "call_function" and qparams(node) is not None and (
        not integers.is_integer_node(node))


def _is_observer(node: Node) -> bool:
    if node.op != "call_module" or node.graph.owning_module is None:
        return False
    return isinstance(node.graph.owning_module.get_submodule(str(node.target)), Observer)


class Effect(StrEnum):
    """How a pass may change the numbers; the manager holds it to that."""

    EXACT = "outputs stay bit-equal"
    REASSOCIATING = "float outputs move by rounding only"
    STEPWISE = "the integers of each operator move by at most one step"
    QUANTIZING = "outputs move by quantization"
