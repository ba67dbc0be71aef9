"""Measures of how far two tensors are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def sqnr(reference: Tensor, other: Tensor) -> float:
    """Signal to quantization noise in dB: 10·log10(Σx² / Σ(x-y)²); inf when equal.

    Two zero tensors are equal (inf); noise on a zero signal is -inf.
    """
    signal = reference.double().square().sum().item()
    noise = (reference.double() - other.double()).square().sum().item()
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def sqnr_of_all(reference: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """One SQNR over all float outputs of a model together; inf where there are none."""
    pairs = [(a, b) for a, b in zip(reference, other, strict=True) if a.is_floating_point()]
    if not pairs:
        return math.inf
    return sqnr(torch.cat([a.flatten().float() for a, _ in pairs]),
                torch.cat([b.flatten().float() for _, b in pairs]))
