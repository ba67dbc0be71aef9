"""Why an operator stays in float, where it is not the placement of others that keeps it there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import kernel_or_reason
from fxq.ir.facts import info, tensor_inputs, why_untraceable
from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import constant_of
from fxq.kernels.rows import Kernel
from fxq.quantization.schemes import Mode

Reason = tuple[str, str]  # a stable code, and one sentence
_OPAQUE: dict[Any, str] = {
    F.scaled_dot_product_attention: "torch computes it in one float kernel, and probabilities of 8 "
                                    "bits would cost 5 to 6 dB"}


def kernel_or_why_not(node: Node, mode: Mode, integer: Collection[Node],
                      context: Context) -> tuple[Kernel | None, Reason | None]:
    """(the node's kernel, why it stays in float): either, or both where others decide yet.

    `integer` are the nodes before it that compute on integers.
    """
    reason = _why_not_mode(node, mode, context)
    if reason:
        return None, reason
    row = kernel_or_reason(node, context.target)
    if not isinstance(row, Kernel):
        return None, row
    if mode is not Mode.DYNAMIC:
        return row, _why_not_inputs(node, integer, context)
    return (row, None) if row.dynamic_call else (
        None, ("dynamic", "its kernel does not measure the range of its input"))


def _why_not_mode(node: Node, mode: Mode, context: Context) -> Reason | None:
    op = op_of(node)
    if op is None:
        why = why_untraceable(node)
        return ("untraceable", why) if why else (
            "opaque", _OPAQUE.get(node.target, "fxq does not know this operator"))
    if mode is Mode.FLOAT:
        return ("scheme", "the scheme leaves it in float") if (
            context.scheme.mode is Mode.FLOAT) else (
            "override", "the scheme's overrides keep it in float")
    if mode is Mode.WEIGHT_ONLY:
        return "weight-only", "the scheme stores its weights as integers, and computes in float"
    if mode is Mode.DYNAMIC and op.kind is not Kind.MAC:
        return "dynamic", "only linear layers take their range at run time"
    if mode is Mode.DYNAMIC and op.rank:  # measured: its output takes the input's format
        return "dynamic", "torch's dynamic convolutions requantize with the range of their input"
    return None


def _why_not_inputs(node: Node, integer: Collection[Node], context: Context) -> Reason | None:
    op = op_of(node)
    inputs = [n for n in tensor_inputs(node) if constant_of(n) is None]
    if not inputs:
        return "constant", "it reads constants only"
    if not all(info(n).dtype is torch.float32 for n in (node, *inputs)):
        return "dtype", "the kernels take float32 values only"
    if context.given.complete and not _is_given(node, inputs, integer, context):
        return "given", "it has no format where the model was prepared"
    layer = op is not None and op.kind is Kind.MAC
    if not layer and not any(n in integer for n in inputs):
        return "float-input", "its input is in float, and converting it would cost more"
    return None


def _is_given(node: Node, inputs: list[Node], integer: Collection[Node], context: Context) -> bool:
    """Whoever decided the formats has one for the node's value, and for what it reads."""
    op, given = op_of(node), context.given
    known = all(n in integer or info(n).value in given.formats for n in inputs)
    if op is not None and op.kind is Kind.MAC:
        return known and info(node).value in given.weights
    return known and (info(node).value in given.formats or (
        op is not None and op.kind is Kind.SAME))
