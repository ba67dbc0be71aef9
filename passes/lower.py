"""lower: every integer operator of a REFERENCE graph becomes a kernel of the target.

    y8 = quantize(conv2d_relu(dequantize(x8), dequantize_weight(w8, s), b), s, z)
 -> y8 = conv2d_relu(x8, packed, s, z)
    m8 = max_pool2d_on_integers(x8)      ->      m8 = max_pool2d(x8)

Quantize and dequantize at the borders of float operators become the target's own.

Preserved: integers within one step per operator (kernels round their own way at ties).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.errors import VerificationError
from fxq.ir import integers
from fxq.ir.facts import KERNEL, MACS, info, is_on_integers, qparams
from fxq.ir.ops import OPS, Op, op_of
from fxq.ir.rewriter import PassResult, Rewriter, label
from fxq.ir.sizes import macs
from fxq.ir.stages import Effect, Stage
from fxq.kernels import calls
from fxq.kernels.arguments import ARGUMENTS, integer_behind, packed_weight
from fxq.kernels.calls import Call
from fxq.kernels.lookup_tables import FLOAT, choose, table_of
from fxq.kernels.needs import why_not_format
from fxq.kernels.rows import row_of
from fxq.passes.base import Pass
from fxq.passes.lower_integers import lower_integers
from fxq.quantization.formats import QParams
from fxq.targets.base import Target


@dataclass(frozen=True)
class Lower(Pass):
    """Kernels of the target, weights prepacked, no module call on the hot path."""

    name: ClassVar[str] = "lower"
    before: ClassVar[Stage] = Stage.REFERENCE
    after: ClassVar[Stage] = Stage.LOWERED
    effect: ClassVar[Effect] = Effect.STEPWISE

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter, fed = Rewriter(module), _fed_by_inputs(module.graph)
        if context.target.plain:
            lower_integers(module, rewriter)
            return rewriter.result()
        for node in list(module.graph.nodes):
            if node.target is integers.quantize:
                _lower_quantize(node, rewriter, context.target, fed)
            elif getattr(_weight_of(node), "target", None) is integers.dequantize_weight:
                _lower_float_result(node, rewriter, context.target)
            elif integers.is_integer_operator(node):
                _lower_integer_op(node, rewriter)
        rewriter.sweep()
        for node in list(module.graph.nodes):
            if node.target is integers.dequantize:
                new = rewriter.call(calls.from_quantized, node.args, {}, like=node, before=node)
                _replace(node, new, calls.DEQUANTIZE, rewriter)
        for node in list(module.graph.nodes):
            _reuse_memory(node, rewriter)
        return rewriter.result()


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


def _is_quantized_next(node: Node) -> bool:
    return any(u.target is integers.quantize for u in node.users)


def _lower_float_result(node: Node, rewriter: Rewriter, target: Target) -> None:
    """A layer with integer weights that gives float: from integers, rounded floats, or floats."""
    if getattr(node.args[0], "target", None) is integers.round_at_run_time:
        _lower_dynamic(node, rewriter, target)
    elif not is_on_integers(node) or row_of(node) is None:
        _unpack_weight(node, rewriter)  # also of a graph that was placed for another target
    elif not _is_quantized_next(node):
        _lower_float_output(node, rewriter, target)


def _lower_dynamic(node: Node, rewriter: Rewriter, target: Target) -> None:
    """Float in, float out: the kernel measures and rounds its input itself."""
    row = row_of(node)
    if row is None or not row.dynamic_call:  # a graph that was placed for another target
        raise VerificationError(f"{label(node)} has no dynamic kernel on {target.name}",
                                where=info(node).source)
    call = calls.get_call(row.dynamic_call)
    packed = packed_weight(node, call, rewriter, target.engine_of(row))
    source = integer_behind(node.args[0])
    new = rewriter.call(call.function, (source, packed), {}, like=node, before=node)
    MACS.set(new, macs(node))
    _replace(node, new, call, rewriter)


def _unpack_weight(node: Node, rewriter: Rewriter) -> None:
    """Weights that are only stored as integers become float once, not at every call."""
    weight = integers.constant_value(node.args[1])
    assert weight is not None
    node.update_arg(1, rewriter.constant(f"{label(node)}.weight", weight, node))
    rewriter.note(node, "weight dequantized once")


def _lower_float_output(node: Node, rewriter: Rewriter, target: Target) -> None:
    """Integers in, float out: the last linear layer keeps all bits of its sums."""
    row = row_of(node)
    if row is None or not row.float_call:  # a graph that was placed for another target
        _unpack_weight(node, rewriter)
        return
    call = calls.get_call(row.float_call)
    source = node.args[0]
    format_ = qparams(integer_behind(source))
    assert format_ is not None
    packed = packed_weight(node, call, rewriter, target.engine_of(row))
    new = rewriter.call(call.function, (source, format_.scale, format_.zero_point, packed), {},
                        like=node, before=node)
    MACS.set(new, macs(node))
    _replace(node, new, call, rewriter)


def _swap(old: Node, origin: Node, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any],
          rewriter: Rewriter) -> None:
    record = replace(info(origin), dtype=info(old).dtype)
    new = rewriter.call(call.function, args, kwargs, like=old, before=old, value=record,
                        quantized=qparams(old))
    if macs(origin):
        MACS.set(new, macs(origin))
    _replace(old, new, call, rewriter)


def _replace(old: Node, new: Node, call: Call, rewriter: Rewriter) -> None:
    """The kernel takes the node's place, and keeps its name as a fact."""
    KERNEL.set(new, call.name)
    rewriter.replace(old, new, call.name)


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
