"""What `link` gives: a graph that runs on this machine, and what its calls must keep to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from fxq.system.torch_state import EngineGuard

if TYPE_CHECKING:
    from fxq.runtime.decision import RuntimeChoice
    from fxq.runtime.shape_program import Outcome


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a call needs: flat inputs to flat outputs.

    `takes` refuses the inputs that float refuses; calls run under `guard` where the quantized
    engine of the process matters. `bare` functions call no operator of torch, so that its modes
    (autograd, autocast) change nothing.
    """

    function: Callable[..., Any]
    takes: Callable[[Sequence[Tensor]], Outcome | None]
    guard: EngineGuard | None = None
    bare: bool = False


@dataclass(frozen=True, kw_only=True)
class Executable(Entry):
    """A linked graph; `choice` is the evidence by which `runtime` was picked."""

    graph_module: fx.GraphModule
    runtime: str
    choice: RuntimeChoice | None = None
