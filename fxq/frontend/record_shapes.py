"""Run a graph once on real tensors and record the shape and dtype of every value."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from fxq.errors import TraceError
from fxq.frontend.nests import field_names
from fxq.ir.facts import info, set_info
from fxq.ir.printer import target_name


class _Recorder(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        self._name_by_place(n)
        try:
            value = super().run_node(n)
        except Exception as error:
            raise TraceError(f"the traced model fails at {info(n).path or target_name(n)}",
                             where=info(n).source, why=str(error).strip().split("\n")[0],
                             fix="compute this outside of the model; a trace does not "
                                 "record contexts such as torch.enable_grad",
                             ) from error
        if isinstance(value, Tensor):
            set_info(n, replace(info(n), shape=tuple(value.shape), dtype=value.dtype))
        return value


    def _name_by_place(self, n: fx.Node) -> None:
        """`x.max(1).values` becomes `x.max(1)[0]`, which a file can hold."""
        if n.target is getattr and len(n.args) == 2 and isinstance(n.args[0], fx.Node):
            names = field_names(type(self.env[n.args[0]]))
            if n.args[1] in names:
                n.target, n.args = operator.getitem, (n.args[0], names.index(str(n.args[1])))


def record_shapes(module: fx.GraphModule, inputs: list[Tensor]) -> Any:
    """Fill in shape and dtype of each node; returns what the graph computes.

    Raises TraceError, with the user's line, when a node fails on the example inputs.
    """
    recorder = _Recorder(module)
    recorder.extra_traceback = False
    with torch.no_grad():
        return recorder.run(*inputs)
