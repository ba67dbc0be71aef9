"""Layers that measure the range of their input at each call."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.ir.rewriter import declare_pure
from fxq.quantization.formats import OF_ZEROS, SMALLEST

_LARGEST = torch.finfo(torch.float32).max


@declare_pure
def linear_dynamic(input: Tensor, weight: Tensor, bias: Tensor, scales: Tensor, *, low: int,
                   high: int, relu: bool) -> Tensor:
    """A linear layer on float32, over integers that the range of its whole input gives.

        q = clamp(rint(x * inverse) + zero, low, high)             NaN becomes `high`
        v = float32(sum of (q - zero) * weight) * (scale * scales)
        v = v + bias

    Each float32 operation is rounded on its own, and no multiplier is infinite. `weight` holds
    integers; `bias` and `scales` are float32, one for each output channel.
    """
    scale, inverse, zero = measure(input, low, high)
    values = torch.nan_to_num(input * inverse, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    steps = (torch.round(values) + zero).clamp_(low, high) - zero
    sums = F.linear(steps.double(), weight.double()).float()
    values = sums * (scale * scales).clamp(max=_LARGEST) + bias
    return torch.where(values > 0, values, 0.0) if relu else values


def measure(input: Tensor, low: int, high: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, one over it, and zero point (all float32) of a tensor's finite numbers and zero.

    Computed in float64, and rounded once: scale = (largest - least) / (high - low), but at least
    2^-126, or 2^-23 where all is zero; zero = clamp(low - rint(least / scale), low, high).
    """
    finite = torch.nan_to_num(input, nan=0.0, posinf=0.0, neginf=0.0)
    least, largest = (v.double() for v in torch.aminmax(finite)) if input.numel() else (
        input.new_zeros(2, dtype=torch.float64))
    least, largest = least.clamp(max=0.0), largest.clamp(min=0.0)
    reach = largest - least
    # by a tensor of the same device: a division by a number may be a product there
    scale = (reach / torch.full_like(reach, high - low)).float().clamp(min=SMALLEST)
    scale = torch.where(reach == 0, OF_ZEROS, scale)
    zero = (low - torch.round(least / scale.double())).clamp(low, high)
    return scale, scale.double().reciprocal().float(), zero.float()
