"""Integer weights: scales, rounding, and the pairs that a 16-bit adder must not saturate on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.quantization.formats import SMALLEST, QSpec
from fxq.quantization.weight_calibrators import get_weight_rule

Arrange = Callable[[Tensor], Tensor] | None
_SPREAD = 2.0**-64
_SLICE = 1 << 18  # numbers


@dataclass(frozen=True)
class IntegerWeight:
    """Integers with their float32 scales (one, or one per channel); `zeros` only when affine."""

    values: Tensor
    scales: Tensor
    zeros: Tensor | None = None


def weight_scales(weight: Tensor, axis: int | None, spec: QSpec,
                  rule: str = "minmax") -> tuple[Tensor, Tensor]:
    """Float32 scales and int32 zero points of each channel (of all together: axis None).

    No scale is below _SPREAD of the largest: dead channels, whose weights decay to 1e-40, do not
    make their layer one that kernels cannot compute. A channel of zeros stays exactly zero.
    """
    flat = weight.reshape(1, -1) if axis is None else weight.transpose(0, axis).flatten(1)
    if not flat.numel():
        return spec.scales(torch.zeros(flat.shape[0]), torch.zeros(flat.shape[0]))
    low, high = get_weight_rule(rule)(flat, spec)
    scales, zeros = spec.scales(low, high)
    empty = (low == 0) & (high == 0)
    largest = torch.where(empty, 0.0, scales).max()
    highest = torch.where(empty & (largest > 0), largest, torch.inf)
    return scales.clamp(min=largest * _SPREAD).clamp(min=SMALLEST).minimum(highest), zeros


def quantize_weight(weight: Tensor, axis: int | None, spec: QSpec,
                    rule: str = "minmax") -> IntegerWeight:
    """Integers at the scales that the rule chooses."""
    scales, points = weight_scales(weight, axis, spec, rule)
    zeros = None if spec.symmetric else points
    return IntegerWeight(round_weight(weight, scales, axis, spec, zeros), scales, zeros)


def round_weight(weight: Tensor, scales: Tensor, axis: int | None, spec: QSpec,
                 zeros: Tensor | None = None) -> Tensor:
    """Round half to even at the given scales and saturate, as torch's quantizer does."""
    shape = [1] * weight.dim()
    if axis is not None:
        shape[axis] = -1
    # torch multiplies by the reciprocal, so that the same weights give the same integers
    inverse = (1.0 / scales.to(torch.float32)).reshape(shape)
    steps = (weight * inverse).round_()
    if zeros is not None:
        steps = steps + zeros.reshape(shape)
    return steps.clamp_(spec.low, spec.high).to(spec.dtype)


def safe_scales(source: Tensor, scales: Tensor, limit: int, arrange: Arrange,
                spec: QSpec) -> Tensor:
    """Scales at which no pair of weights that meet adds up to more than `limit`.

    `source` has its output channels first. Only the scales of unsafe channels grow, by the least
    factor that makes their worst pair fit.
    """
    scales, axis = scales.clone(), 0 if scales.numel() > 1 else None
    shape = (-1, *[1] * (source.dim() - 1))
    while bool((unsafe := _worst(round_weight(source, scales, axis, spec), scales, arrange)
                > limit).any()):
        steps = _worst(source / scales.reshape(shape), scales, arrange)
        growth = torch.clamp(steps / limit, min=1 + 2**-10)
        scales = torch.where(unsafe, scales * growth, scales)
    return scales


def _worst(weight: Tensor, scales: Tensor, arrange: Arrange) -> Tensor:
    """The worst pair for each scale: of a channel, or of all where they share one."""
    worst = worst_pair(weight, arrange)
    return worst if scales.numel() > 1 or not worst.numel() else worst.amax().reshape(1)


def worst_pair(weight: Tensor, arrange: Arrange) -> Tensor:
    """The largest |w_i + w_j| of each output channel, over the pairs that meet.

    `weight` has its output channels first. Without a known arrangement, any two weights of a
    channel may meet.
    """
    wide = weight if weight.is_floating_point() else weight.to(torch.int16)
    if not wide.numel():
        return torch.zeros(wide.shape[0])
    if arrange is None:
        ordered = wide.flatten(1).sort(1).values
        return torch.maximum(ordered[:, -2:].sum(1), -ordered[:, :2].sum(1)).float()
    laid_out = arrange(wide)
    return (laid_out[:, ::2] + laid_out[:, 1::2]).abs().amax(1).float()


def rows(weight: Tensor) -> Iterator[slice]:
    """The first dimension in parts of which a float64 copy takes 2 MB at most."""
    step = max(1, _SLICE // max(1, weight[:1].numel()))
    return (slice(start, start + step) for start in range(0, len(weight), step))


def scaled(weight: Tensor, factor: Tensor) -> Tensor:
    """weight · factor, computed in float64 and rounded once; both have as many rows."""
    result = torch.empty_like(weight)
    for part in rows(weight):
        result[part] = weight[part].double() * factor[part]
    return result


def per_output(factor: Tensor, transposed: bool, groups: int, weight: Tensor) -> Tensor:
    """One factor per output channel, in the shape of the weight.

    Weights of transposed convolutions are (inputs, outputs / groups, ...).
    """
    ones = (1,) * (weight.dim() - 2)
    if not transposed:
        return factor.reshape(-1, 1, *ones)
    grouped = factor.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    return grouped.reshape(weight.shape[0], weight.shape[1], *ones)
