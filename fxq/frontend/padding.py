"""Convolutions pad by integers, or read a pad of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.fx import Node

from fxq.frontend.binding import Call
from fxq.ir.facts import info
from fxq.ir.ops import OPS
from fxq.ir.rewriter import Rewriter, constant_of


def explicit_padding(node: Node, call: Call, operands: list[Any], attributes: dict[str, Any],
                     rewriter: Rewriter) -> Any:
    """Resolve `same`, `valid` and padding modes: the convolution's input, padded where it must be.

    `attributes` gets the convolution's own integer padding.
    """
    if attributes.get("padding") == "valid":
        attributes["padding"] = 0
    if attributes.get("padding") != "same" and call.padding_mode == "zeros":
        return operands[0]
    pads = _pad_amounts(operands[1], attributes, OPS[call.op].rank)
    symmetric = all(left == right for left, right in pads)
    if symmetric and call.padding_mode == "zeros":
        attributes["padding"] = pads[0][0] if len(set(pads)) == 1 else tuple(
            p[0] for p in pads)
        return operands[0]
    attributes["padding"] = 0
    mode = "constant" if call.padding_mode == "zeros" else call.padding_mode
    flat = tuple(amount for pair in reversed(pads) for amount in pair)
    source = operands[0]
    shape = list(info(source).shape or ())
    for axis, (left, right) in enumerate(pads, start=len(shape) - len(pads)):
        shape[axis] += left + right
    record = replace(info(node), shape=tuple(shape), is_module=False)
    return rewriter.call(OPS["pad"], [source], {"pad": flat, "mode": mode}, like=node,
                         before=node, value=record)


def _pad_amounts(weight: Any, attributes: dict[str, Any], rank: int) -> list[tuple[int, int]]:
    """(left, right) for each spatial dimension, first dimension first."""
    tensor = constant_of(weight)
    kernel = tensor.shape[2:] if tensor is not None else info(weight).shape[2:]  # type: ignore[index]
    padding, dilation = (attributes.get(k, d) for k, d in (("padding", 0), ("dilation", 1)))
    dilations = dilation if isinstance(dilation, tuple) else (dilation,) * rank
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        return [(t // 2, t - t // 2) for t in totals]
    return [(p, p) for p in (padding if isinstance(padding, tuple) else (padding,) * rank)]
