"""Pick a runtime: by name, or by what is expected and measured on the example inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxq.errors import ConfigError, VerificationError, did_you_mean
from fxq.ir.facts import why_untraceable
from fxq.kernels.native.library import isa
from fxq.runtime.cuda import select_cuda
from fxq.runtime.decision import RuntimeChoice, decide, expectation
from fxq.runtime.input_guard import has_arrivals
from fxq.runtime.native.run import build_native
from fxq.runtime.python import Function, build
from fxq.runtime.torchscript import build_torchscript
from fxq.system import plugins
from fxq.system.timing import turns
from fxq.system.torch_state import quiet
from fxq.targets import Target

RUNTIMES = ("auto", "python", "torchscript", "native")
_ROUNDS, _LEAST, _BUDGET = 60, 6, 0.4  # turns for each side, and seconds after which to stop


@dataclass(frozen=True)
class Runtime:
    """A way to execute, from outside: `build` makes a function of a graph and example inputs.

    The function takes the graph's flat inputs and returns its flat outputs, makes every call of
    the graph at every call of its own, and gives the bits that generated Python gives.
    """

    name: str
    build: Callable[[fx.GraphModule, list[Tensor]], Function]


def select(module: fx.GraphModule, inputs: list[Tensor], name: str,
           target: Target, expected: Sequence[Any] | None = None,
           ) -> tuple[str, Function, RuntimeChoice | None]:
    """(name, function, evidence where there was a choice). The bits are the same either way.

    `expected` are the outputs of the graph for the inputs, where they were computed. Raises
    ConfigError for an unknown name, or when a runtime was asked for by name that cannot run the
    graph; VerificationError for a native program that gives other bits.
    """
    if target.device == "cuda":
        return (*select_cuda(module, inputs, name), None)
    if name == "native" or (name == "auto" and target.engine == "native"):
        return "native", _native(module, inputs, target, expected), None
    python = build(module)
    if name not in RUNTIMES:
        return name, _plugin(name, module, inputs, python), None
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
    choice = _race(module, inputs, python, script)
    found = choice.chosen if choice else "python"
    return found, script if found == "torchscript" else python, choice


def _race(module: fx.GraphModule, inputs: list[Tensor], python: Function,
          script: Function) -> RuntimeChoice | None:
    """What measurement decides; None where TorchScript gives other bits."""
    with torch.no_grad(), quiet():
        if not _same_bits(python(*inputs), script(*inputs)):
            return None
        measured = turns([lambda: python(*inputs), lambda: script(*inputs)], _ROUNDS,
                         budget=_BUDGET, least=_LEAST)
    return decide(dict(zip(("python", "torchscript"), measured, strict=True)),
                  expectation(module.graph))


def _native(module: fx.GraphModule, inputs: list[Tensor], target: Target,
            expected: Sequence[Any] | None) -> Function:
    """Programs, once they have given the bits of the graph for the example inputs."""
    if target.engine != "native":
        raise ConfigError(f"runtime 'native' does not run graphs of target {target.name!r}",
                          fix='use runtime="auto", or compile for target="native"')
    function = build_native(module)
    if expected is None:
        return function
    with torch.no_grad(), quiet():
        found = function(*inputs)
    if not _same_bits(expected, found):
        raise VerificationError("the native kernels give other bits than the graph",
                                why=f"they are those for {isa()}",
                                fix='this is a fault of fxq; please report it, and use '
                                    'runtime="python" until it is mended')
    return function


def _plugin(name: str, module: fx.GraphModule, inputs: list[Tensor], python: Function) -> Function:
    """A plugin's function, once it has given the same bits as Python for the example inputs."""
    runtime = plugins.load_plugin(plugins.RUNTIMES, name, Runtime, RUNTIMES)
    if runtime is None:
        known = (*RUNTIMES, *plugins.plugins(plugins.RUNTIMES))
        raise ConfigError(f"unknown runtime {name!r}", fix=did_you_mean(name, known))
    with torch.no_grad(), quiet():
        function = runtime.build(module, inputs)
        if not _same_bits(python(*inputs), function(*inputs)):
            raise VerificationError(f"runtime {name!r} changes the numbers",
                                    why="generated Python gives other bits for the example inputs",
                                    fix='use runtime="python"')
    return function


def _calls_user_code(module: fx.GraphModule) -> bool:
    """A module that could not be traced decides at each call; TorchScript would keep one branch."""
    return has_arrivals(module) or any(why_untraceable(n) for n in module.graph.nodes)


def _same_bits(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(type(x) is type(y) and (
        x.dtype == y.dtype and torch.equal(x, y) if isinstance(x, Tensor) else x == y)
        for x, y in zip(a, b, strict=True))
