"""What a quantized operator computes, on plain integer tensors: the definition that kernels follow.

    sum = bias + Σ (x - zero_in) * weight              exact
    v   = float32(sum) * multiplier                    one float32 per output channel
    v   = v + float32(other - zero_other) * m          where a sum joins
    q   = clamp(rint(v) + zero, low, high)             half to even

Each float32 operation is rounded on its own, so that the bits are the same on any device. Sums are
exact because products of integers are added in float64, which holds integers up to 2^53. Values are
uint8 but for formats that need more bits, whose `dtype` is given. Layouts are torch's (NCHW).

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 2, with a float32 multiplier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.ir.averages import average, average_float
from fxq.ir.dynamic import linear_dynamic
from fxq.ir.requantize import requantized
from fxq.ir.rewriter import declare_pure

MOST_TERMS = (2**31 - 1) // 255**2  # of a sum of products of two bytes that 32 bits hold
_CONV: dict[int, Callable[..., Tensor]] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}


@declare_pure
def conv(input: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, *, stride: Any,
         padding: Any, dilation: Any, groups: int, zero_in: int, zero: int, low: int, high: int,
         dtype: torch.dtype = torch.uint8) -> Tensor:
    """A convolution of 1, 2 or 3 dimensions, by the rank of its weight.

    `weight` holds integers, `bias` int32 at the scale of the sums, `multiplier` float32; both
    have one entry for each output channel.
    """
    values = _sums(_CONV, input, weight, bias, zero_in, stride=stride, padding=padding,
                   dilation=dilation, groups=groups) * _channels(multiplier, input)
    return requantized(values, zero, low, high, dtype)


@declare_pure
def conv_add(input: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, other: Tensor, *,
             stride: Any, padding: Any, dilation: Any, groups: int, zero_in: int, zero_other: int,
             other_multiplier: float, zero: int, low: int, high: int,
             dtype: torch.dtype = torch.uint8) -> Tensor:
    """A convolution, and a value of its result's shape that joins before rounding."""
    values = _sums(_CONV, input, weight, bias, zero_in, stride=stride, padding=padding,
                   dilation=dilation, groups=groups) * _channels(multiplier, input)
    values = values + _steps(other, zero_other) * other_multiplier
    return requantized(values, zero, low, high, dtype)


@declare_pure
def conv_transpose(input: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, *,
                   stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any,
                   zero_in: int, zero: int, low: int, high: int,
                   dtype: torch.dtype = torch.uint8) -> Tensor:
    """A transposed convolution; `weight` is (inputs, outputs / groups, …)."""
    values = _sums(_TRANSPOSED, input, weight, bias, zero_in, stride=stride, padding=padding,
                   output_padding=output_padding, groups=groups,
                   dilation=dilation) * _channels(multiplier, input)
    return requantized(values, zero, low, high, dtype)


@declare_pure
def linear(input: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, *, zero_in: int,
           zero: int, low: int, high: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """A linear layer over the last dimension."""
    values = _linear_sums(input, weight, bias, zero_in) * multiplier
    return requantized(values, zero, low, high, dtype)


@declare_pure
def linear_float(input: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, *, zero_in: int,
                 relu: bool) -> Tensor:
    """A linear layer whose float32 result is read: all bits of its sums are kept."""
    values = _linear_sums(input, weight, bias, zero_in) * scale
    return torch.relu(values) if relu else values


@declare_pure
def add(a: Tensor, b: Tensor, *, zero_a: int, zero_b: int, multiplier_a: float,
        multiplier_b: float, zero: int, low: int, high: int,
        dtype: torch.dtype = torch.uint8) -> Tensor:
    """The sum of two values of one shape; multipliers are scales over the result's scale."""
    values = _steps(a, zero_a) * multiplier_a + _steps(b, zero_b) * multiplier_b
    return requantized(values, zero, low, high, dtype)


@declare_pure
def multiply(a: Tensor, b: Tensor, *, zero_a: int, zero_b: int, multiplier: float, zero: int,
             low: int, high: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """The product of two values of one shape, or of images and one number per channel."""
    products = (a.double() - zero_a) * (b.double() - zero_b)
    return requantized(products.float() * multiplier, zero, low, high, dtype)


@declare_pure
def matmul(a: Tensor, b: Tensor, *, zero_a: int, zero_b: int, multiplier: float, zero: int,
           low: int, high: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Products of the matrices in the last two dimensions of two values."""
    return requantized(_products(a, b, zero_a, zero_b) * multiplier, zero, low, high, dtype)


@declare_pure
def matmul_float(a: Tensor, b: Tensor, *, zero_a: int, zero_b: int, scale: float) -> Tensor:
    """Products of matrices whose float32 result is read: all bits of their sums are kept."""
    return _products(a, b, zero_a, zero_b) * scale


@declare_pure
def look_up(input: Tensor, table: Tensor) -> Tensor:
    """A function of one uint8 value, as the table of its 256 results."""
    return table[input.long()]


@declare_pure
def concatenate(tensors: Sequence[Tensor], *, dim: int) -> Tensor:
    """Values of one format, one behind the other."""
    return torch.cat(list(tensors), dim)


@declare_pure
def enter(input: Tensor, *, multiplier: float, zero: int, low: int, high: int,
          dtype: torch.dtype = torch.uint8) -> Tensor:
    """Float32 to integers; `multiplier` is one over the scale, and NaN becomes `high`."""
    values = torch.nan_to_num(input * multiplier, nan=torch.inf, posinf=torch.inf,
                              neginf=-torch.inf)
    return requantized(values, zero, low, high, dtype)


@declare_pure
def enter_bytes(input: Tensor, table: Tensor) -> Tensor:
    """Images of bytes to integers, by a table of 256 results for each channel."""
    channels = torch.arange(input.shape[1], device=input.device).reshape(-1, 1, 1)
    return table[channels, input.long()]


@declare_pure
def leave(input: Tensor, *, zero: int, scale: float) -> Tensor:
    """Integers to float32."""
    return _steps(input, zero) * scale


@declare_pure
def max_pool1d(input: Tensor, **attributes: Any) -> Tensor:
    """torch has none on integers: its values are whole numbers in float32."""
    pooled: Tensor = F.max_pool1d(input.float(), **attributes)
    return pooled.to(input.dtype)


@declare_pure
def max_pool2d(input: Tensor, **attributes: Any) -> Tensor:
    """torch's own counts pixels of channels_last bytes in eight bits, and refuses more than 127."""
    pooled: Tensor = F.max_pool2d(input.contiguous(), **attributes)
    return pooled


@declare_pure
def nearest(input: Tensor, **attributes: Any) -> Tensor:
    """Nearest-neighbour resizing of values in any integer type."""
    return F.interpolate(input.float(), **attributes).to(input.dtype)


def _steps(input: Tensor, zero: int) -> Tensor:
    return (input.to(torch.int32) - zero).float()


def _sums(functions: dict[int, Callable[..., Tensor]], input: Tensor, weight: Tensor,
          bias: Tensor, zero_in: int, **geometry: Any) -> Tensor:
    """The exact sums, rounded once to float32."""
    function = functions[weight.dim()]
    return function(input.double() - zero_in, weight.double(), bias.double(), **geometry).float()


def _linear_sums(input: Tensor, weight: Tensor, bias: Tensor, zero_in: int) -> Tensor:
    return F.linear(input.double() - zero_in, weight.double(), bias.double()).float()


def _products(a: Tensor, b: Tensor, zero_a: int, zero_b: int) -> Tensor:
    return torch.matmul(a.double() - zero_a, b.double() - zero_b).float()


def _channels(multiplier: Tensor, input: Tensor) -> Tensor:
    return multiplier.reshape(-1, *[1] * (input.dim() - 2))


__all__ = ["add", "average", "average_float", "concatenate", "conv", "conv_add", "conv_transpose",
           "enter", "enter_bytes", "leave", "linear", "linear_dynamic", "linear_float", "look_up",
           "matmul", "matmul_float", "max_pool1d", "max_pool2d", "multiply", "nearest",
           "requantized"]
