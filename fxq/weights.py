"""Integer weights: ranges, rounding, and the pairs that a 16-bit adder must not saturate on."""

from __future__ import annotations

import torch
from torch import Tensor

from fxq.qspec import QSpec


def channel_axis(op: str) -> int:
    """The dimension of a weight that holds the output channels."""
    return 1 if op.startswith("conv_transpose") else 0


def quantize_weight(weight: Tensor, axis: int | None, spec: QSpec) -> tuple[Tensor, Tensor]:
    """Integers and float32 scales, from the largest magnitude of each channel (or of all).

    A channel of zeros gets the smallest scale and stays exactly zero.
    """
    flat = weight.reshape(1, -1) if axis is None else weight.transpose(0, axis).flatten(1)
    limits = flat.abs().amax(1) if flat.numel() else torch.zeros(flat.shape[0])
    scales = spec.channel_scales(limits)
    return round_weight(weight, scales, axis, spec), scales


def round_weight(weight: Tensor, scales: Tensor, axis: int | None, spec: QSpec) -> Tensor:
    """Round half to even at the given scales and saturate, as torch's quantizer does."""
    shape = [1] * weight.dim()
    if axis is not None:
        shape[axis] = -1
    # torch multiplies by the reciprocal, so that the same weights give the same integers
    inverse = (1.0 / scales.to(torch.float32)).reshape(shape)
    return torch.round(weight * inverse).clamp(spec.low, spec.high).to(spec.dtype)


def worst_pair(weight: Tensor, pairs: tuple[tuple[int, int], ...] | None) -> Tensor:
    """The largest |w_i + w_j| of each output channel, over the given pairs of taps.

    `weight` is (channels, 1, *kernel) of a depthwise convolution. Without known pairs, any
    two taps of a channel may meet.
    """
    taps = weight.flatten(1).to(torch.float32)
    if pairs is None:
        ordered = taps.sort(1).values
        return torch.maximum(ordered[:, -2:].sum(1), -ordered[:, :2].sum(1))
    if not pairs:
        return torch.zeros(taps.shape[0])
    left, right = (list(side) for side in zip(*pairs, strict=True))
    return (taps[:, left] + taps[:, right]).abs().amax(1)
