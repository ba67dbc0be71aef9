"""Which layers can saturate a 16-bit adder, and on which CPUs: proved from their weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.overrides import scheme_of
from fxq.ir import integers
from fxq.ir.facts import is_on_integers
from fxq.ir.ops import channel_axis, op_of
from fxq.ir.rewriter import constant_of
from fxq.kernels.rows import Kernel, Pairing, row_of
from fxq.quantization.weights import IntegerWeight, worst_pair
from fxq.targets.base import Target

ANY_X86, VNNI_ONLY, ANY = "any x86 CPU", "x86 CPUs with VNNI", "any CPU"


def pairing_for(node: Node, row: Kernel | None, context: Context) -> Pairing | None:
    """The pairing that the weights of a layer with this kernel must be kept safe from, or None."""
    spec = scheme_of(node, context.scheme).weight
    if not context.scheme.pair_safe or spec.bits > 8 or not spec.symmetric:
        return None  # wider formats are simulated: there is no such kernel
    found = pairing_of(node, row)
    return found if found and (found.even_with_vnni or not context.vnni) else None


def pairing_of(node: Node, row: Kernel | None) -> Pairing | None:
    """The pairing of the kernel that a layer takes, on one CPU or another."""
    return next((p for p in row.pairings if p.when(node)), None) if row else None


def integer_weight(node: Node) -> IntegerWeight | None:
    """The integers of a layer that computes on integers."""
    weight = node.args[1] if op_of(node) and len(node.args) > 1 else None
    if not isinstance(weight, Node) or weight.target is not integers.dequantize_weight:
        return None
    values, scales = (constant_of(a) for a in weight.args[:2])
    known = is_on_integers(node) and values is not None and scales is not None
    return IntegerWeight(values, scales) if known else None  # type: ignore[arg-type]


def channels_first(weight: Tensor, node: Node) -> Tensor:
    """Output channels first; the same call takes it back."""
    return weight.transpose(0, channel_axis(node))


@dataclass(frozen=True)
class Proof:
    """How many output channels were looked at, and how many may saturate without VNNI."""

    channels: int = 0
    unsafe: int = 0

    def isa(self, target: Target) -> str:
        """The CPUs that give the right numbers."""
        if not any(row.pairings for row in target.kernels):
            return ANY
        return VNNI_ONLY if self.unsafe else ANY_X86


def prove(module: fx.GraphModule) -> Proof:
    """Look at every pair of integer weights that meets in 16 bits."""
    channels = unsafe = 0
    for node in module.graph.nodes:
        known, pairing = integer_weight(node), pairing_of(node, row_of(node))
        if known is None or pairing is None or known.values.dtype is not torch.int8:
            continue
        worst = worst_pair(channels_first(known.values, node), pairing.arrange)
        channels, unsafe = channels + len(worst), unsafe + int((worst > pairing.limit).sum())
    return Proof(channels, unsafe)
