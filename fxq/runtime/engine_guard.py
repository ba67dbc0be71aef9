"""Which quantized engine a graph's kernels must find current when they are called."""

from __future__ import annotations

from torch import fx
from torch.fx import Node

from fxq.ir.facts import is_on_integers
from fxq.ir.integers import clamp_on_integers, float_op_of
from fxq.system.torch_state import EngineGuard, runtime_engine
from fxq.targets import Kernel, Target


def guard_for(module: fx.GraphModule, target: Target) -> EngineGuard | None:
    """What calls must run under, when a kernel's row says that the engine matters."""
    if target.engine is None:
        return None
    rows = [row for n in module.graph.nodes if (row := _row(n, target))]
    strict = any(row.engine_required for row in rows)
    if not strict and not any(row.engine_sensitive for row in rows):
        return None
    return EngineGuard(runtime_engine(target.engine), strict)


def _row(node: Node, target: Target) -> Kernel | None:
    moved = float_op_of(node)
    if moved is not None or node.target is clamp_on_integers:
        return target.row(moved.name if moved else "clamp")
    return target.kernel_for(node) if is_on_integers(node) else None
