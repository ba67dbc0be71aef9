"""A block as the compiled model will compute it: values and weights rounded, sums in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.analysis.context import Context, Given
from fxq.analysis.formats import choose_formats
from fxq.analysis.overrides import scheme_of
from fxq.analysis.placement import Placement
from fxq.ir.facts import info
from fxq.ir.graph_module import attribute_at, copy_of
from fxq.ir.integers import dequantize_weight, round_at_run_time
from fxq.ir.ops import channel_axis, groups_of, op_of
from fxq.ir.rewriter import Rewriter, constant_of
from fxq.passes.convert import drop_observers
from fxq.passes.correct_bias import mean_shift
from fxq.quantization.formats import QParams
from fxq.quantization.weights import IntegerWeight
from fxq.reconstruction.blocks import Block

Values = dict[Node, Any]  # mostly tensors; sizes are numbers
Round = Callable[[Node, Tensor], Tensor]
Weights = Mapping[Node, tuple[Tensor, Tensor | None]]  # what a layer multiplies by, and its bias


@dataclass
class Simulation:
    """The decisions of `convert`, open to be changed: formats, integer weights, and biases.

    `biases` holds those of the layers with integer weights, as `correct-bias` leaves them. What a
    step decides is kept in `decided` too.
    """

    module: fx.GraphModule  # FUSED: a copy without observers
    context: Context
    placement: Placement
    values: dict[Node, QParams]
    weights: dict[Node, IntegerWeight]
    biases: dict[Node, Tensor | None] = field(default_factory=dict)
    decided: Given = field(default_factory=Given)

    def set_format(self, members: list[Node], format_: QParams) -> None:
        """Decide the format of a group of values (`format_groups`)."""
        self.values |= dict.fromkeys(members, format_)
        named = {info(n).value: format_ for n in members}
        self.decided = replace(self.decided, formats={**self.decided.formats, **named})

    def set_weight(self, layer: Node, weight: IntegerWeight) -> None:
        """Decide the integers of a layer; its bias stays as it is."""
        self.weights[layer] = weight
        self.decided = replace(self.decided, weights={
            **self.decided.weights, info(layer).value: weight})
        self.set_bias(layer, self.bias(layer))

    def set_bias(self, layer: Node, bias: Tensor) -> None:
        """Decide the bias of a layer, which `correct-bias` then leaves alone."""
        self.biases[layer] = bias
        self.decided = replace(self.decided, biases={
            **self.decided.biases, info(layer).value: bias})

    def bias(self, layer: Node) -> Tensor:
        """The bias of a layer, or zeros: one number per output channel."""
        known, shape, op = self.biases[layer], self.float_weight(layer).shape, op_of(layer)
        outputs = shape[1] * groups_of(layer) if op and op.transposed else shape[0]
        return torch.zeros(outputs) if known is None else known

    def float_weight(self, layer: Node) -> Tensor:
        weight = constant_of(layer.args[1])
        assert weight is not None
        return weight

    def exact(self, block: Block, values: Values) -> Values:
        """The block's outputs in float."""
        return self._run(block, values, None, {})

    def rounded(self, block: Block, values: Values, round_value: Round | None = None,
                weights: Weights | None = None) -> Values:
        """The block's outputs as compiled, before they are rounded themselves.

        `round_value` and `weights` take the place of the decided formats and integers.
        """
        own = dict(weights or {})
        for node in block.nodes:
            if node in self.weights and node not in own:
                own[node] = (self.multiplied(node), self.biases[node])
        return self._run(block, values, round_value or self.round_value, own)

    def round_value(self, node: Node, x: Tensor) -> Tensor:
        """A value in its format; gradients pass inside of the range."""
        f = self.values[node]
        return torch.fake_quantize_per_tensor_affine(x, f.scale, f.zero_point, f.low, f.high)

    def multiplied(self, layer: Node) -> Tensor:
        """The weights that the integers of a layer stand for."""
        weight = self.weights[layer]
        result: Tensor = dequantize_weight(weight.values, weight.scales, weight.zeros,
                                           axis=channel_axis(layer))
        return result

    def _is_rounded(self, source: Node, reader: Node) -> bool:
        """Readers see an integer node's value rounded; of a float one's, integer nodes do."""
        integer = self.placement.integer
        return source in self.values and (source in integer or reader in integer)

    def _run(self, block: Block, values: Values, round_value: Round | None,
             weights: Weights) -> Values:
        made, ready = dict(values), dict[Node, Tensor]()

        def operand(reader: Node, source: Node) -> Any:
            if source.op == "get_attr":
                return attribute_at(self.module, str(source.target))
            if round_value is None or not self._is_rounded(source, reader):
                return made[source]
            if source not in ready:
                ready[source] = round_value(source, made[source])
            return ready[source]

        for node in block.nodes:
            args, kwargs = fx.map_arg((node.args, node.kwargs), partial(operand, node))
            if node in weights:
                args = (args[0], *weights[node], *args[3:])
            if round_value is not None and node in self.placement.dynamic:
                levels = scheme_of(node, self.context.scheme).activation
                args = (round_at_run_time(args[0], low=levels.low, high=levels.high), *args[1:])
            made[node] = self._function(node)(*args, **kwargs)
        return {n: made[n] for n in block.outputs}

    def _function(self, node: Node) -> Callable[..., Any]:
        if node.op == "call_module":
            module: nn.Module = self.module.get_submodule(str(node.target))
            return module
        return getattr(Tensor, str(node.target)) if node.op == "call_method" else node.target  # type: ignore[return-value]


def simulate(observed: fx.GraphModule, context: Context) -> Simulation:
    """What `convert` and `correct-bias` would decide for an OBSERVED graph."""
    module = copy_of(observed)
    rewriter = Rewriter(module)
    drop_observers(rewriter)
    rewriter.sweep()
    formats = choose_formats(module, context)
    made = Simulation(module, context, formats.placement, formats.values, formats.weights,
                      decided=context.given)
    for layer in made.weights:
        made.biases[layer] = _corrected_bias(layer, made)
    return made


def _corrected_bias(layer: Node, made: Simulation) -> Tensor | None:
    given, bias = made.decided.biases.get(info(layer).value), constant_of(layer.args[2])
    if given is not None or not made.context.scheme.correct_bias:
        return bias if given is None else given
    error = made.multiplied(layer) - made.float_weight(layer)
    shift = mean_shift(layer, error, made.context)
    return bias if shift is None else ((0 if bias is None else bias.double()) - shift).float()
