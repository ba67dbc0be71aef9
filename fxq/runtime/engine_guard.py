"""Which quantized engine a graph's kernels must find current when they are called."""

from __future__ import annotations

from torch import fx

from fxq.kernels.rows import row_of
from fxq.system.torch_state import EngineGuard, runtime_engine
from fxq.targets import Target


def guard_for(module: fx.GraphModule, target: Target) -> EngineGuard | None:
    """What calls must run under, when the kernel of a node says that the engine matters."""
    if target.engine is None:
        return None
    rows = [row for n in module.graph.nodes if (row := row_of(n))]
    strict = any(row.engine_required for row in rows)
    if not strict and not any(row.engine_sensitive for row in rows):
        return None
    return EngineGuard(runtime_engine(target.engine), strict)
