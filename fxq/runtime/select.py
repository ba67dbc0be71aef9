"""Pick a runtime: by name, or by measuring both on the example inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from fxq.errors import ConfigError, did_you_mean
from fxq.input_guard import has_arrivals
from fxq.kernels import quiet
from fxq.origins import why_untraceable
from fxq.runtime.cuda import select_cuda
from fxq.runtime.python import Function, build
from fxq.runtime.torchscript import build_torchscript
from fxq.timing import race

RUNTIMES = ("auto", "python", "torchscript")
_ROUNDS, _BUDGET = 15, 0.4  # turns for each side, and seconds after which to stop

Times = tuple[tuple[str, float], ...]


def select(module: fx.GraphModule, inputs: list[Tensor], name: str,
           device: str = "cpu") -> tuple[str, Function, Times]:
    """(name, function, measured microseconds). `auto` keeps the faster; bits are the same.

    Raises ConfigError for an unknown name, or when TorchScript was asked for by name and
    cannot run the graph.
    """
    if device == "cuda":
        return (*select_cuda(module, inputs, name), ())
    if name not in RUNTIMES:
        raise ConfigError(f"unknown runtime {name!r}", fix=did_you_mean(name, RUNTIMES))
    python = build(module)
    if name == "python" or (name == "auto" and _calls_user_code(module)):
        return "python", python, ()
    if has_arrivals(module):
        raise ConfigError("the graph cannot run as TorchScript",
                          why="the shape of a value depends on values, and is checked at each call",
                          fix='use runtime="python"')
    try:
        script = build_torchscript(module, inputs)
    except ConfigError:
        if name == "torchscript":
            raise
        return "python", python, ()
    if name == "torchscript":
        return name, script, ()
    return _faster(python, script, inputs)


def _calls_user_code(module: fx.GraphModule) -> bool:
    """A module that could not be traced decides at each call; TorchScript would keep one branch."""
    return has_arrivals(module) or any(why_untraceable(n) for n in module.graph.nodes)


def _faster(python: Function, script: Function,
            inputs: list[Tensor]) -> tuple[str, Function, Times]:
    with torch.no_grad(), quiet():
        if not _same_bits(python(*inputs), script(*inputs)):
            return "python", python, ()
        times = race([lambda: python(*inputs), lambda: script(*inputs)], _ROUNDS, budget=_BUDGET)
    measured = (("python", times[0] * 1e6), ("torchscript", times[1] * 1e6))
    if times[1] < times[0]:
        return "torchscript", script, measured
    return "python", python, measured


def _same_bits(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))
