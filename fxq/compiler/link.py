"""From REFERENCE to what runs on this machine: the second half of `convert`, and of `load`."""

from __future__ import annotations

from torch import fx

from fxq.compiler.manager import Manager
from fxq.ir.stages import Stage
from fxq.passes.lower import Lower
from fxq.runtime.engine_guard import guard_for
from fxq.runtime.executable import Executable
from fxq.runtime.input_guard import InputGuard, check_arrivals
from fxq.runtime.native.program import Segment
from fxq.runtime.select import select
from fxq.runtime.shape_program import ShapeProgram


def link(module: fx.GraphModule, manager: Manager, takes: tuple[tuple[str, ...], ShapeProgram],
         runtime: str) -> Executable:
    """Lower a graph to the kernels of this machine, check them, and pick a runtime.

    `module` is rewritten in place; `manager` stands at its stage and holds the example inputs on
    which each kernel is compared with REFERENCE, step by step. `takes` are the names of the
    inputs and the shapes that follow from the graph. Raises VerificationError for a kernel that
    is more than one step off, ConfigError for a runtime that cannot run the graph.
    """
    target, guard = manager.context.target, None
    if manager.stage is Stage.REFERENCE and (target.engine or target.plain):
        with manager.clock.step("engine guard"):
            guard = guard_for(module, target)
        manager.run(module, (Lower(),))
    names, shapes = takes
    with manager.clock.step("input guard"):
        inputs = InputGuard(names, shapes, target.device)
        check_arrivals(module, inputs)
    with manager.clock.step("choose runtime"):
        name, function, choice = select(module, list(manager.inputs), runtime, target,
                                        manager.last_outputs)
    return Executable(function=function, takes=inputs, guard=guard, graph_module=module,
                      runtime=name, choice=choice, bare=isinstance(function, Segment))
