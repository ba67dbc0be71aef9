"""What `link` gives: a graph that runs on this machine, and what its calls must keep to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from fxq.runtime.decision import RuntimeChoice
from fxq.runtime.input_guard import InputGuard
from fxq.runtime.python import Function
from fxq.system.torch_state import EngineGuard


@dataclass(frozen=True)
class Executable:
    """Flat inputs to flat outputs.

    `takes` refuses the inputs that float refuses; calls run under `guard` where the quantized
    engine of the process matters; `choice` is the evidence by which `runtime` was picked. `bare`
    functions call no operator of torch, so that its modes (autograd, autocast) change nothing.
    """

    function: Function
    graph_module: fx.GraphModule
    takes: InputGuard
    guard: EngineGuard | None
    runtime: str
    choice: RuntimeChoice | None = None
    bare: bool = False
