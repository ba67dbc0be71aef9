"""Images that come as bytes: what a model makes of each of the 256 values before it is rounded.

    q = quantize((x.float() / 255 - mean) / std)   ->   a table for each channel
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir import arithmetic
from fxq.ir.facts import info
from fxq.ir.ops import op_of
from fxq.ir.rewriter import constant_of


def table_behind(node: Any, entry: Mapping[str, Any]) -> tuple[Node, Tensor] | None:
    """The image of bytes behind a float value, and what `arithmetic.enter` makes of each byte.

    The table is (channels, 256). None where the value is no function of one byte and its channel.
    """
    steps: list[Node] = []
    while _is_step(node):
        steps.append(node)
        node = _operand(node)
    shape = info(node).shape if isinstance(node, Node) else None
    if not steps or shape is None or len(shape) != 4 or info(node).dtype is not torch.uint8 or any(
            info(step).shape != shape for step in steps):
        return None
    value = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, shape[1], 16, 16)
    for step in reversed(steps):
        value = _computed(step, value)
    if value.dtype is not torch.float32 or value.shape[1] != shape[1]:
        return None
    return node, arithmetic.enter(value, **entry).reshape(shape[1], 256)


def _is_step(node: Any) -> bool:
    """It computes each float32 of a value by itself, from numbers that its channel decides."""
    if not isinstance(node, Node) or info(node).dtype is not torch.float32:
        return False
    if node.op == "call_method":
        return (node.target, node.args[1:], dict(node.kwargs)) in (
            ("float", (), {}), ("to", (torch.float32,), {}), ("to", (), {"dtype": torch.float32}))
    op = op_of(node)
    return op is not None and op.rounds_once and not node.kwargs and len(
        [a for a in node.args if not _is_plain(a)]) == 1


def _is_plain(operand: Any) -> bool:
    """A number, or a constant with one number or one for each channel of an image."""
    constant = constant_of(operand) if isinstance(operand, Node) else None
    if constant is None:
        return not isinstance(operand, Node)
    sizes = (*[1] * (4 - constant.dim()), *constant.shape)
    return len(sizes) == 4 and (sizes[0], *sizes[2:]) == (1, 1, 1)


def _operand(step: Node) -> Any:
    return next(a for a in step.args if not _is_plain(a))


def _computed(step: Node, value: Tensor) -> Tensor:
    if step.op == "call_method":
        return value.float()
    op = op_of(step)
    assert op is not None
    operands = [value if not _is_plain(a) else constant_of(a) if isinstance(a, Node) else a
                for a in step.args]
    result: Tensor = op.call(*operands)
    return result
