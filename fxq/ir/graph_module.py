"""A GraphModule that generates its code when it is first called: most graphs are only rewritten."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn


class LateGraphModule(fx.GraphModule):
    """Like fx.GraphModule, which would write and compile Python at each change of its graph."""

    def recompile(self) -> Any:
        """Forget the code; the next call, or look at `code`, generates it."""
        if "forward" in vars(type(self)):
            del type(self).forward
        self._code = ""

    @property
    def code(self) -> str:
        """The generated Python."""
        if not self._code:
            super().recompile()
        return str(self._code)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Generate the code, which takes this method's place, and call it."""
        super().recompile()
        return self(*args, **kwargs)

    def __reduce__(self) -> Any:
        return fx.GraphModule(self, self.graph).__reduce__()

    def __str__(self) -> str:
        return super().__str__() if self.code else ""


def attribute_at(module: nn.Module, path: str) -> Any:
    """The tensor, module or packed weight behind a dotted name."""
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def copied(module: fx.GraphModule) -> tuple[nn.Module, fx.Graph]:
    """A copy of the nodes, facts and all, and a root that shares the tensors and modules."""
    graph, root = fx.Graph(), nn.Module()
    outputs = graph.output(graph.graph_copy(module.graph, {}))
    outputs.meta.update(module.graph.output_node().meta)  # which graph_copy leaves behind
    for store in ("_parameters", "_buffers", "_modules"):
        getattr(root, store).update(getattr(module, store))
    for name, value in vars(module).items():
        if isinstance(value, torch.ScriptObject):
            setattr(root, name, value)
    return root, graph


def copy_of(module: fx.GraphModule) -> fx.GraphModule:
    """A graph that can be rewritten while the first one stays as it is."""
    return LateGraphModule(*copied(module))
