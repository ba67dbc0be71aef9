"""How far from float the formats of a node let it be: rounding noise, and where ranges are short.

Rounding to a step adds noise of variance step² / 12 (Widrow and Kollár 2008, chapter 4). Noise of
a layer's weights reaches its results as the sum, over the products, of input² · step² / 12.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from fxq.compiler.verify import REASSOCIATION
from fxq.ir.ops import attributes, base_of, op_of
from fxq.quantization.formats import QParams
from fxq.quantization.weights import IntegerWeight

# In deviations of the expected noise, per channel. Errors of one channel's weights are drawn once,
# so that they do not average out: a normal one exceeds 6 in 2e-9 of all channels. Weights that are
# rounded by learning, or kept safe in pairs, err by up to a step: twice the deviation.
MARGIN = 6.0
# Saturation is at fault when it costs 16 times (12 dB: two bits) the noise of a range that would
# hold all values. Calibrators weigh one against the other; on other images than they saw, the
# ranges that they choose for MobileNetV2 and SqueezeNet cost up to 6 times as much.
SHORT = 16.0
HALF = (torch.float16, torch.bfloat16)


def rounding_variance(format_: QParams | None, exact: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Of the results' own rounding: by their format, by half precision, or by float's."""
    float_noise = REASSOCIATION * float(exact.abs().max()) if exact.numel() else 0.0
    step = format_.scale if format_ is not None else 0.0
    half = torch.finfo(dtype).eps if dtype in HALF and dtype is not None else 0.0
    return (half * exact) ** 2 / 12 + (step**2 / 12 + float_noise**2)


def weight_steps(weight: IntegerWeight, exact: Tensor, axis: int) -> Tensor:
    """The step of each weight: one scale, or one for each index of `axis`."""
    scales = weight.scales.float()
    shape = [-1 if d == axis else 1 for d in range(exact.dim())]
    return scales.reshape(shape if scales.numel() > 1 else [1] * exact.dim()).expand(exact.shape)


def weight_variance(layer: Node, x: Tensor, weight: Tensor, steps: Tensor,
                    input_step: float = 0.0) -> Tensor:
    """What rounding the weights (and inputs of a step chosen at run time) adds to each result."""
    op = op_of(layer)
    assert op is not None
    base = base_of(op)[0]
    fixed = {k: v for k, v in attributes(layer).items() if k in base.attributes}
    found: Tensor = base.call(x.square(), steps**2 / 12, None, **fixed)
    if input_step:
        noise = torch.full_like(x, input_step**2 / 12)
        found = found + base.call(noise, weight.square(), None, **fixed)
    return found


def excess_of(noise: Tensor, variance: Tensor) -> float:
    """Noise over what is expected of it, both as deviations, in the worst channel."""
    if not noise.numel():
        return 0.0
    dims = [d for d in range(noise.dim()) if d != 1]
    power = noise.double().square()
    expected = variance.double().expand(noise.shape)
    if noise.dim() > 1 and dims:
        power, expected = power.mean(dims), expected.mean(dims)
    return float((power / expected.clamp(min=1e-300)).max().sqrt())


def too_short(values: Tensor, format_: QParams) -> bool:
    """Saturating at a format's range costs more than rounding in one that holds all values."""
    if not values.numel():
        return False
    lost = (values - values.clamp(*format_.bounds())).double().square().mean()
    reach = max(float(values.max()), 0.0) - min(float(values.min()), 0.0)
    return float(lost) > SHORT * (reach / (format_.high - format_.low)) ** 2 / 12
