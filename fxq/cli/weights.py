"""What the command line says about weights: random ones, and those of another model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import typer
from torch import Tensor, fx

from fxq.cli.models import DEFAULT, RANDOM, Loaded
from fxq.compiled import CompiledModel
from fxq.errors import ConfigError
from fxq.ir.facts import info
from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import constant_of
from fxq.profiler.compare import fused_graph
from fxq.quantization.sqnr import sqnr


def warn_of_random(name: str) -> None:
    """One loud line on stderr."""
    typer.echo(f"WARNING: {name} has RANDOM WEIGHTS: accuracy and SQNR say nothing about a "
               f"trained model. Pass --weights FILE, or --weights {DEFAULT} for the library's own",
               err=True)


def mark(compiled: CompiledModel, loaded: Loaded | None, name: str) -> None:
    """Note in the report where weights come from, and warn of random ones."""
    if loaded is not None and loaded.weights:
        compiled.report = replace(compiled.report, weights=loaded.weights)
    if compiled.report.weights == RANDOM:
        warn_of_random(name)


def refuse_other_weights(file: str, compiled: CompiledModel, name: str, loaded: Loaded,
                         example: Tensor) -> None:
    """Raise ConfigError when a file's weights are no rounding of the model's.

    Rounding to the nearest multiple of a scale never moves a weight by more than its own size,
    because 0 is such a multiple, and neither does saturation: whatever the number of bits, the
    noise of a layer's weights has at most their energy (SQNR >= 0 dB). Independent weights of the
    same energy are at -3 dB.
    """
    theirs = layer_weights(fused_graph(loaded.model, [example]))
    mine = layer_weights(compiled.float_graph())
    for path, weights in mine.items():
        why = why_not_rounded(path, theirs.get(path, []), weights)
        if why:
            raise ConfigError(f"{file} was not compiled from {name} with these weights", why=why,
                              fix=f"{name} has random weights here: pass --weights FILE"
                              if loaded.weights == RANDOM else
                              "pass --model and --weights as they were when it was compiled")


def why_not_rounded(path: str, exact: list[Tensor], given: list[Tensor]) -> str:
    """Why a layer's weights cannot be these ones rounded; empty when they can."""
    if [a.shape for a in exact] != [b.shape for b in given]:
        return f"the model has no layer {path!r} with weights of this shape"
    worst = min(sqnr(a, b) for a, b in zip(exact, given, strict=True))
    return "" if worst >= 0 else (
        f"the weights of {path} are {worst:.1f} dB close to the model's; rounding leaves 0 or more")


def layer_weights(module: fx.GraphModule) -> dict[str, list[Tensor]]:
    """The stored weights of convolutions and linear layers by module path, in graph order."""
    found: dict[str, list[Tensor]] = {}
    for node in module.graph.nodes:
        op = op_of(node)
        if op is None or op.kind is not Kind.MAC:
            continue
        operand: Any = node.args[1]
        weight = constant_of(operand)
        if weight is not None:  # a sum that took the layer in has the sum's path
            path = info(operand).path.rpartition(".")[0] or info(node).path
            found.setdefault(path, []).append(weight.detach().to(torch.float32))
    return found
