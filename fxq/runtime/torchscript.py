"""TorchScript, traced and frozen: the lowest cost per operator, at a longer compile time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.jit._trace import TracerWarning

from fxq.errors import ConfigError
from fxq.runtime.python import Shell, build
from fxq.system.torch_state import quiet


class _Holder(nn.Module):
    """Gives the tracer an owner for packed weights and buffers."""

    def __init__(self, module: fx.GraphModule, names: list[str]) -> None:
        super().__init__()
        for name in names:
            value = getattr(module, name.split(".")[0])
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name.split(".")[0], value)
        self.names = names
        self.run: Any = None

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(*(_lookup(self, name) for name in self.names), *inputs)


def _lookup(owner: Any, path: str) -> Any:
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner


def build_torchscript(module: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    """Trace and freeze the graph; raises ConfigError when tracing would fix a decision."""
    names = [str(n.target) for n in module.graph.nodes if n.op == "get_attr"]
    names = list(dict.fromkeys(names))
    holder = _Holder(module, names).eval()
    holder.run = build(_with_inputs_for(module, names))  # type: ignore[arg-type]
    with quiet(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error", TracerWarning)
        try:
            trace: Any = torch.jit.trace
            traced = trace(holder, tuple(inputs), check_trace=False)
            frozen = torch.jit.freeze(traced.eval(), optimize_numerics=False)
            for _ in range(2):  # the executor specializes on its first calls
                frozen(*inputs)
        except Exception as error:  # whatever the tracer stumbles over, the reason is passed on
            raise ConfigError("the graph cannot run as TorchScript",
                              why=str(error).strip().split("\n")[0],
                              fix='use runtime="python"') from error
    return frozen  # type: ignore[no-any-return]


def _with_inputs_for(module: fx.GraphModule, names: list[str]) -> Shell:
    """A copy of the graph that takes its constants as inputs, so that the tracer sees them."""
    graph = fx.Graph()
    made = {name: graph.placeholder(f"constant_{i}") for i, name in enumerate(names)}
    mapping = {n: made[str(n.target)] for n in module.graph.nodes if n.op == "get_attr"}
    for node in module.graph.nodes:
        if node not in mapping:
            mapping[node] = graph.node_copy(node, lambda n: mapping[n])
    return Shell(module, graph, mapping)
