"""Pick a runtime: by name, or by what is expected and measured on the example inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from fxq.errors import ConfigError, did_you_mean
from fxq.ir.facts import why_untraceable
from fxq.runtime.cuda import select_cuda
from fxq.runtime.decision import RuntimeChoice, decide, expectation
from fxq.runtime.input_guard import has_arrivals
from fxq.runtime.python import Function, build
from fxq.runtime.torchscript import build_torchscript
from fxq.system.timing import turns
from fxq.system.torch_state import quiet

RUNTIMES = ("auto", "python", "torchscript")
_ROUNDS, _LEAST, _BUDGET = 60, 6, 0.4  # turns for each side, and seconds after which to stop


def select(module: fx.GraphModule, inputs: list[Tensor], name: str,
           device: str = "cpu") -> tuple[str, Function, RuntimeChoice | None]:
    """(name, function, evidence where there was a choice). The bits are the same either way.

    Raises ConfigError for an unknown name, or when TorchScript was asked for by name and
    cannot run the graph.
    """
    if device == "cuda":
        return (*select_cuda(module, inputs, name), None)
    if name not in RUNTIMES:
        raise ConfigError(f"unknown runtime {name!r}", fix=did_you_mean(name, RUNTIMES))
    python = build(module)
    if name == "python" or (name == "auto" and _calls_user_code(module)):
        return "python", python, None
    if has_arrivals(module):
        raise ConfigError("the graph cannot run as TorchScript",
                          why="the shape of a value depends on values, and is checked at each call",
                          fix='use runtime="python"')
    try:
        script = build_torchscript(module, inputs)
    except ConfigError:
        if name == "torchscript":
            raise
        return "python", python, None
    if name == "torchscript":
        return name, script, None
    with torch.no_grad(), quiet():
        if not _same_bits(python(*inputs), script(*inputs)):
            return "python", python, None
        measured = turns([lambda: python(*inputs), lambda: script(*inputs)], _ROUNDS,
                         budget=_BUDGET, least=_LEAST)
    choice = decide(dict(zip(("python", "torchscript"), measured, strict=True)),
                    expectation(module.graph))
    return choice.chosen, script if choice.chosen == "torchscript" else python, choice


def _calls_user_code(module: fx.GraphModule) -> bool:
    """A module that could not be traced decides at each call; TorchScript would keep one branch."""
    return has_arrivals(module) or any(why_untraceable(n) for n in module.graph.nodes)


def _same_bits(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))
