"""Which quantized engine a graph's kernels must find current when they are called."""

from __future__ import annotations

from torch import fx

from fxq.info import is_on_integers
from fxq.integers import clamp_on_integers, float_op_of
from fxq.targets import Target


def sensitive_engine(module: fx.GraphModule, target: Target) -> str | None:
    """The engine that calls must run under, when a kernel's row says that it matters."""
    rows = [target.kernel_for(n) for n in module.graph.nodes if is_on_integers(n)]
    moved = [op.name for n in module.graph.nodes if (op := float_op_of(n))]
    clamped = ["clamp" for n in module.graph.nodes if n.target is clamp_on_integers]
    rows += [target.row(name) for name in (*moved, *clamped)]
    return target.engine if any(row and row.engine_sensitive for row in rows) else None
