"""Lowering of layers with integer weights whose result is float, to kernels of torch's engines."""

from __future__ import annotations

from torch.fx import Node

from fxq.errors import VerificationError
from fxq.ir import integers
from fxq.ir.facts import KERNEL, MACS, info, is_on_integers, qparams
from fxq.ir.rewriter import Rewriter, label
from fxq.ir.sizes import macs
from fxq.kernels import calls
from fxq.kernels.arguments import integer_behind, packed_weight
from fxq.kernels.calls import Call
from fxq.kernels.rows import row_of
from fxq.targets.base import Target


def _is_quantized_next(node: Node) -> bool:
    return any(u.target is integers.quantize for u in node.users)


def lower_float_result(node: Node, rewriter: Rewriter, target: Target) -> None:
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
    put_kernel(node, new, call, rewriter)


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
    put_kernel(node, new, call, rewriter)


def put_kernel(old: Node, new: Node, call: Call, rewriter: Rewriter) -> None:
    """The kernel takes the node's place, and keeps its name as a fact."""
    KERNEL.set(new, call.name)
    rewriter.replace(old, new, call.name)
