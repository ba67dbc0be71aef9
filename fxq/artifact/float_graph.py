"""The float side of a file: the FUSED graph that its integers stand for, weights dequantized.

It lets a loaded model be compared with float arithmetic without the model that it came from. Its
weights carry the rounding of the file's; only the original model knows better ones.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx
from torch.fx import Node

from fxq.artifact.read_graph import from_portable
from fxq.artifact.write_graph import Portable
from fxq.ir import integers
from fxq.ir.facts import info, qparams, set_info
from fxq.ir.ops import OPS, Kind, op_of
from fxq.ir.rewriter import Rewriter

_PASSED_ON = (integers.dequantize, integers.round_at_run_time, integers.to_dtype)


def float_graph(portable: Portable, *, activations_only: bool = False) -> fx.GraphModule:
    """A float graph with the operators of the file's graph.

    With `activations_only`, values saturate only where that does the work of an activation.
    """
    module = from_portable(portable)
    rewriter = Rewriter(module)
    for node in list(module.graph.nodes):
        if node.target is integers.dequantize_weight:
            weight = integers.constant_value(node)
            assert weight is not None
            constant = rewriter.constant(f"{info(node).path}.weight", weight, node)
            rewriter.replace(node, constant, "dequantized")
        elif node.target in _PASSED_ON:
            rewriter.bypass(node)
        elif node.target is integers.quantize:
            if activations_only and not _is_activation(node):
                rewriter.bypass(node)
            else:
                _saturate(node, rewriter)
        elif node.target is integers.clamp_on_integers:
            _float_clamp(node, rewriter)
        elif (op := integers.float_op_of(node)) is not None:
            kwargs = {k: v for k, v in node.kwargs.items() if k != "zero_point"}
            new = rewriter.call(op, node.args, kwargs, like=node, before=node)
            rewriter.replace(node, new, "float")
    for name, tensor in list(module.named_buffers()):
        if tensor.dtype in (torch.float16, torch.bfloat16):
            setattr(module, name, tensor.float())
    for node in module.graph.nodes:
        if info(node).dtype in (torch.uint8, torch.int8, torch.int16, torch.float16,
                                torch.bfloat16) and node.op != "placeholder":
            set_info(node, replace(info(node), dtype=torch.float32))
    rewriter.sweep()
    module.recompile()
    return module


def _is_activation(quantize: Node) -> bool:
    """A layer without an activation of its own whose format begins at zero."""
    producer, format_ = quantize.args[0], integers.qparams_argument(quantize)
    op = op_of(producer) if isinstance(producer, Node) else None
    return op is not None and op.kind in (Kind.MAC, Kind.RANGE) and not op.activation and (
        format_.zero_point == format_.low)


def _saturate(node: Node, rewriter: Rewriter) -> None:
    """Quantizing saturates, and that may be an activation's work; only the rounding goes."""
    low, high = integers.qparams_argument(node).bounds()
    new = rewriter.call(OPS["clamp"], (node.args[0],), {"min": low, "max": high}, like=node,
                        before=node)
    rewriter.replace(node, new, "saturates")


def _float_clamp(node: Node, rewriter: Rewriter) -> None:
    """The bounds as real numbers again."""
    format_ = qparams(node)
    assert format_ is not None
    low, high = ((int(node.kwargs[k]) - format_.zero_point) * format_.scale  # type: ignore[arg-type]
                 for k in ("low", "high"))
    new = rewriter.call(OPS["clamp"], node.args, {"min": low, "max": high}, like=node, before=node)
    rewriter.replace(node, new, "float")
