"""convert: make every number format explicit.

    y = observer(conv2d(x))    ->      x8 = quantize(x)
                                       y  = conv2d(dequantize(x8), dequantize_weight(w8, s), b)
                                       y8 = quantize(y);  readers read dequantize(y8)

  1. A node computes on integers when the target has a kernel for it and its limits hold.
  2. Every reader of an integer node's value reads it dequantized; of a float node's value,
     only integer nodes do.
  3. Layers whose range is measured at run time read their input rounded by its own range.
  4. Weights become integers with one scale per output channel, or one in all where the target
     asks for that; so do the weights of layers that compute in float to save space.

Every node that stays in float is a refusal with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.formats import choose_formats
from fxq.analysis.overrides import scheme_of
from fxq.ir import integers
from fxq.ir.facts import BIAS_CORRECTED, FLOAT_WEIGHT, Info, info, place_on_integers
from fxq.ir.ops import Kind, channel_axis, op_of
from fxq.ir.rewriter import PassResult, Rewriter, constant_of, label
from fxq.ir.stages import Effect, Stage
from fxq.kernels.rows import keep_row
from fxq.passes.base import Pass
from fxq.quantization.formats import QParams
from fxq.quantization.observer import Observer
from fxq.quantization.weights import IntegerWeight


@dataclass(frozen=True)
class Convert(Pass):
    """Observers become explicit quantize and dequantize; weights become integers."""

    name: ClassVar[str] = "convert"
    before: ClassVar[Stage] = Stage.OBSERVED
    after: ClassVar[Stage] = Stage.REFERENCE
    effect: ClassVar[Effect] = Effect.QUANTIZING

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        drop_observers(rewriter)
        if any(integers.is_integer_node(n) for n in module.graph.nodes):
            return rewriter.result()
        formats = choose_formats(module, context)
        placement = formats.placement
        for node, (code, reason) in placement.reasons.items():
            rewriter.refuse(node, code, reason)
        for node, qparams in formats.values.items():
            _convert_value(node, qparams, placement.integer, rewriter)
        for node in [n for n in module.graph.nodes if n in placement.float_output]:
            rewriter.note(node, "integers in, float out")
        for node in placement.integer:
            place_on_integers(node)
        for node, row in placement.rows.items():
            keep_row(node, row)
        for node in placement.dynamic:
            _round_input(node, context, rewriter)
        names: dict[int, str] = {}
        for node in [n for n in module.graph.nodes if n in formats.weights]:
            _convert_weight(node, formats.weights[node], names, rewriter, context)
        return rewriter.result()


def _kind(node: Node) -> Kind | None:
    op = op_of(node)
    return op.kind if op else None


def drop_observers(rewriter: Rewriter) -> None:
    """Take all observers out again."""
    module = rewriter.module
    for node in list(module.graph.nodes):
        if node.op != "call_module":
            continue
        if isinstance(module.get_submodule(str(node.target)), Observer):
            rewriter.bypass(node)


def _convert_value(node: Node, qparams: QParams, integer: frozenset[Node],
                   rewriter: Rewriter) -> None:
    """Condition 2."""
    readers = [u for u in node.users if _kind(u) is not Kind.SHAPE and (
        node in integer or u in integer)]
    shapes = [u for u in node.users if _kind(u) is Kind.SHAPE]
    kwargs = integers.qparams_kwargs(qparams)
    record = replace(info(node), is_module=False)
    quantized = rewriter.call(integers.quantize, (node,), kwargs, like=node,
                              value=replace(record, dtype=qparams.dtype), quantized=qparams)
    back = rewriter.call(integers.dequantize, (quantized,), dict(kwargs), like=quantized,
                         value=record)
    rewriter.insert_between(node, readers, back)
    if node in integer:  # sizes are read from the integers, so that no float copy is needed
        rewriter.insert_between(node, shapes, quantized)
    rewriter.note(node, "on integers" if node in integer else "quantized for its readers")


def _round_input(node: Node, context: Context, rewriter: Rewriter) -> None:
    """Condition 3."""
    source, spec = node.args[0], scheme_of(node, context.scheme).activation
    assert isinstance(source, Node)
    new = rewriter.call(integers.round_at_run_time, (source,),
                        {"low": spec.low, "high": spec.high}, like=node, before=node,
                        value=replace(info(source), is_module=False))
    node.update_arg(0, new)


def _convert_weight(node: Node, integer: IntegerWeight, names: dict[int, str],
                    rewriter: Rewriter, context: Context) -> None:
    """Condition 4."""
    weight = constant_of(node.args[1])
    assert weight is not None
    axis, scheme = channel_axis(node), scheme_of(node, context.scheme)
    path = names.setdefault(weight.data_ptr(), label(node))  # tied weights are kept once
    operands = [rewriter.constant(f"{path}.weight_int{scheme.weight.bits}", integer.values, node),
                rewriter.constant(f"{path}.weight_scale", integer.scales, node)]
    if integer.zeros is not None:
        operands.append(rewriter.constant(f"{path}.weight_zero", integer.zeros, node))
    new = rewriter.call(integers.dequantize_weight, operands, {"axis": axis}, like=node,
                        before=node, value=Info(tuple(weight.shape), torch.float32, path))
    node.update_arg(1, new)
    bias = context.given.biases.get(info(node).value)
    if bias is not None:
        node.update_arg(2, rewriter.constant(f"{label(node)}.bias", bias, node))
        BIAS_CORRECTED.set(node, True)
    FLOAT_WEIGHT.set(node, weight)  # pair-safe-weights rounds again from these
