"""Each node alone: a compiled graph that is fed float's values, and float's own regions."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.ir.facts import info, qparams
from fxq.ir.integers import qparams_kwargs, quantize
from fxq.kernels.calls import with_qparams
from fxq.profiler.values import as_float

Env = Mapping[Node, Any]


class Fed(fx.Interpreter):
    """Runs a compiled graph; each node reads what float made, in the formats of its inputs.

    `found` is what each node made, `read` what its readers got in its place; both as float. What
    only `repeats` another value stays as it is.
    """

    def __init__(self, module: fx.GraphModule, exact: Mapping[Node, Tensor],
                 repeats: Container[Node] = ()) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.exact, self.repeats = exact, repeats
        self.found: dict[Node, Tensor] = {}
        self.read: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if not isinstance(value, Tensor) or n not in self.exact:
            return value
        given = value
        if n not in self.repeats:
            self.found[n] = _kept(n, value)
            given = _formatted(self.exact[n], n, value)
        self.read[n] = _kept(n, given)
        return given


def _kept(node: Node, value: Tensor) -> Tensor:
    """A value as float, in memory of its own: kernels write over what nobody reads any more."""
    return as_float(node, value).detach().clone().float()


def _formatted(exact: Tensor, node: Node, like: Tensor) -> Tensor:
    """A float value in the form of `like`, which a node has made."""
    format_ = qparams(node)
    if format_ is None:
        return exact.to(like.dtype).clone()
    integers = quantize(exact, **qparams_kwargs(format_))
    return with_qparams(integers, format_) if like.is_quantized else integers


class FloatRun:
    """The values of a float graph for one batch, and what becomes of others in their place."""

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Tensor]) -> None:
        self.runner = fx.Interpreter(module, garbage_collect_values=False)
        self.runner.extra_traceback = False
        self.outputs = self.runner.run(*(x.clone() for x in inputs))
        self.values: dict[Node, Any] = dict(self.runner.env)
        self.order = list(module.graph.nodes)

    def region(self, node: Node, given: Env) -> dict[Node, Any]:
        """The values on the way from `given` ones to a node."""
        needed, stack = set(), [node]
        while stack:
            at = stack.pop()
            if at not in given and at not in needed and at.op not in ("placeholder", "get_attr"):
                needed.add(at)
                stack += at.all_input_nodes
        return self._run((n for n in self.order if n in needed), given)

    def effect(self, node: Node, value: Tensor) -> Sequence[Any]:
        """The outputs when a node makes `value`."""
        changed = {node}
        for n in self.order:
            if any(i in changed for i in n.all_input_nodes):
                changed.add(n)
        later = (n for n in self.order if n in changed and n is not node)
        found = self._run(later, {node: value})
        outputs: Sequence[Any] = found.get(self.order[-1], self.outputs)
        return outputs

    def _run(self, nodes: Iterable[Node], given: Env) -> dict[Node, Any]:
        env = self.runner.env = {**self.values, **given}
        found = {}
        for n in nodes:
            found[n] = env[n] = self.runner.run_node(n)
        return found


def sources_of(node: Node, known: Container[Node]) -> list[Node]:
    """The nearest nodes before it whose values are known."""
    found, stack, seen = [], list(node.all_input_nodes), set()
    while stack:
        at = stack.pop()
        if at in seen:
            continue
        seen.add(at)
        if at in known:
            found.append(at)
        else:
            stack += at.all_input_nodes
    return found


def twins_of(compiled: fx.GraphModule, floats: Iterable[Node]) -> dict[Node, Node]:
    """The float node of each compiled one that makes the same value; inputs are values too."""
    known = {info(n).value: n for n in floats  # the last: behind a saturating clamp
             if n.op not in ("get_attr", "output") and info(n).value}
    return {n: known[key] for n in compiled.graph.nodes
            if n.op not in ("get_attr", "output") and (key := info(n).value) in known}


def is_float(value: Any) -> bool:
    """A tensor of real numbers that is not empty."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() > 0 and bool(
        torch.isfinite(value).all())
