"""Lowering to packed kernels of torch's engines, on its quantized tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch.fx import Node

from fxq.errors import VerificationError
from fxq.ir import integers
from fxq.ir.facts import KERNEL, MACS, info, is_on_integers, qparams
from fxq.ir.ops import OPS, Op, op_of
from fxq.ir.rewriter import Rewriter, label
from fxq.ir.sizes import macs
from fxq.kernels import calls
from fxq.kernels.arguments import ARGUMENTS, integer_behind
from fxq.kernels.calls import Call
from fxq.kernels.lookup_tables import FLOAT, choose, table_of
from fxq.kernels.needs import why_not_format
from fxq.kernels.rows import row_of
from fxq.passes.lower_float import lower_float_result, put_kernel
from fxq.quantization.formats import QParams
from fxq.targets.base import Target


def lower_kernels(module: fx.GraphModule, target: Target, rewriter: Rewriter) -> None:
    """Rewrite a REFERENCE graph in place, in kernels of torch's engines."""
    fed = _fed_by_inputs(module.graph)
    for node in list(module.graph.nodes):
        if node.target is integers.quantize:
            _lower_quantize(node, rewriter, target, fed)
        elif getattr(_weight_of(node), "target", None) is integers.dequantize_weight:
            lower_float_result(node, rewriter, target)
        elif integers.is_integer_operator(node):
            _lower_integer_op(node, rewriter)
    rewriter.sweep()
    for node in list(module.graph.nodes):
        if node.target is integers.dequantize:
            new = rewriter.call(calls.from_quantized, node.args, {}, like=node, before=node)
            put_kernel(node, new, calls.DEQUANTIZE, rewriter)
    for node in list(module.graph.nodes):
        _reuse_memory(node, rewriter)


def _lower_quantize(quantize: Node, rewriter: Rewriter, target: Target, fed: set[Node]) -> None:
    producer, format_ = quantize.args[0], integers.qparams_argument(quantize)
    assert isinstance(producer, Node)
    reason = why_not_format(format_, target.activation)
    if reason:
        raise VerificationError(f"{label(quantize)} cannot be held for {target.name}", why=reason)
    row = row_of(producer)
    call = calls.get_call(row.call) if row and is_on_integers(producer) else None
    if row is None or call is None or call.form not in (*ARGUMENTS, "function"):
        _lower_entry(quantize, format_, rewriter, fed)  # its kernel rounds to no other format
        return
    if call.form == "function":
        _lower_function(quantize, producer, call, rewriter, target, fed)
        return
    args, kwargs = ARGUMENTS[call.form](producer, call, format_, rewriter, target.engine_of(row))
    _swap(quantize, producer, call, args, kwargs, rewriter)


def _lower_function(quantize: Node, producer: Node, call: Call, rewriter: Rewriter,
                    target: Target, fed: set[Node]) -> None:
    """A table of all results where that is faster; else the function stays in float."""
    choice, format_ = choose(producer, target.costs), integers.qparams_argument(quantize)
    rewriter.choose(choice)
    if choice.way == FLOAT:
        _lower_entry(quantize, format_, rewriter, fed)
        return
    table = quantize.args[1] if len(quantize.args) > 1 else rewriter.constant(
        f"{label(producer)}.table", table_of(producer, format_), producer)
    source = next(a for a in producer.args if getattr(a, "target", None) is integers.dequantize)
    args = (integer_behind(source), table, format_.scale, format_.zero_point)
    _swap(quantize, producer, call, args, {}, rewriter)


def _reuse_memory(node: Node, rewriter: Rewriter) -> None:
    """A float function may write over a dequantized value that only it reads."""
    function = calls.IN_PLACE.get(node.target) if callable(node.target) else None
    source = node.args[0] if node.args else None
    if function is None or qparams(node) is not None or not isinstance(source, Node):
        return
    if source.target is calls.from_quantized and len(source.users) == 1:
        new = rewriter.call(function, node.args, {}, like=node, before=node)
        rewriter.replace(node, new, "in place")


def _lower_entry(quantize: Node, format_: QParams, rewriter: Rewriter, fed: set[Node]) -> None:
    """Quantize a float value; one that comes from the user's input gets channels_last first.

    Kernels want that layout, and some round ties by it: with one layout for all, equal inputs
    give equal bits however they lie in memory.
    """
    args = (quantize.args[0], format_.scale, format_.zero_point, calls.quantized_dtype(format_))
    if len(info(quantize).shape or ()) != 4 or quantize not in fed:
        _swap(quantize, quantize, calls.QUANTIZE, args, {}, rewriter)
        return
    entry = rewriter.call(calls.to_quantized, args, {}, like=quantize, before=quantize,
                          quantized=format_)
    KERNEL.set(entry, calls.QUANTIZE.name)
    layout = {"memory_format": torch.channels_last}
    _swap(quantize, quantize, calls.get_call("contiguous"), (entry,), layout, rewriter)


def _fed_by_inputs(graph: fx.Graph) -> set[Node]:
    """What depends on an input of the model without passing through integers."""
    fed: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or (node.target is not integers.dequantize
                                        and not fed.isdisjoint(node.all_input_nodes)):
            fed.add(node)
    return fed


def _weight_of(node: Node) -> Any:
    return node.args[1] if op_of(node) is not None and len(node.args) > 1 else None


def _swap(old: Node, origin: Node, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any],
          rewriter: Rewriter) -> None:
    record = replace(info(origin), dtype=info(old).dtype)
    new = rewriter.call(call.function, args, kwargs, like=old, before=old, value=record,
                        quantized=qparams(old))
    if macs(origin):
        MACS.set(new, macs(origin))
    put_kernel(old, new, call, rewriter)


def _lower_integer_op(node: Node, rewriter: Rewriter) -> None:
    op, row = integers.float_op_of(node), row_of(node)
    kwargs = {k: v for k, v in node.kwargs.items() if k != "zero_point"}
    if op is None:
        kwargs = _clamp_bounds(node)
    if row is None:
        _compute_in_float(node, op or OPS["clamp"], kwargs, rewriter)
        return
    call, args = calls.get_call(row.call), node.args
    if call.form == "cat":
        format_ = _format_of(node)
        args = (list(args[0]), kwargs.get("dim", 0), format_.scale, format_.zero_point)  # type: ignore[arg-type]
        kwargs = {}
    _swap(node, node, call, args, kwargs, rewriter)


def _compute_in_float(node: Node, op: Op, kwargs: dict[str, Any], rewriter: Rewriter) -> None:
    """What this target has no kernel for: the graph was placed for another."""
    value = replace(info(node), dtype=torch.float32)
    twin = rewriter.call(op, node.args, kwargs, like=node, before=node, value=value)
    twin.args = fx.map_arg(node.args, lambda source: rewriter.call(
        integers.dequantize, (source,), integers.qparams_kwargs(_format_of(source)), like=source,
        before=twin, value=replace(info(source), dtype=torch.float32)))
    format_ = _format_of(node)
    args = (twin, format_.scale, format_.zero_point, calls.quantized_dtype(format_))
    _swap(node, node, calls.QUANTIZE, args, {}, rewriter)


def _format_of(node: Node) -> QParams:
    format_ = qparams(node)
    assert format_ is not None, f"{label(node)} is on integers without a format"
    return format_


def _clamp_bounds(node: Node) -> dict[str, Any]:
    format_ = _format_of(node)
    zero, scale = format_.zero_point, format_.scale
    return {"min": (node.kwargs["low"] - zero) * scale, "max": (node.kwargs["high"] - zero) * scale}  # type: ignore[operator]
