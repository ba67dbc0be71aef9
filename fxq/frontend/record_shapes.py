"""Run a graph once on real tensors and record the shape and dtype of every value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from fxq.errors import TraceError
from fxq.ir.facts import info, set_info


class _Recorder(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except Exception as error:
            raise TraceError(f"the traced model fails at {info(n).path or n.target}",
                             where=info(n).source, why=str(error).strip().split("\n")[0],
                             fix="check that the example inputs are what the model takes",
                             ) from error
        if isinstance(value, Tensor):
            set_info(n, replace(info(n), shape=tuple(value.shape), dtype=value.dtype))
        return value


def record_shapes(module: fx.GraphModule, inputs: list[Tensor]) -> Any:
    """Fill in shape and dtype of each node; returns what the graph computes.

    Raises TraceError, with the user's line, when a node fails on the example inputs.
    """
    recorder = _Recorder(module)
    recorder.extra_traceback = False
    with torch.no_grad():
        return recorder.run(*inputs)
