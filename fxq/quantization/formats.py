"""Number formats: which integers a value may take, and how they map to real numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# The smallest normal float32: below it, scales and their products lose bits, and kernels differ.
SMALLEST = torch.finfo(torch.float32).tiny
OF_ZEROS = torch.finfo(torch.float32).eps  # any scale holds zeros; torch's observers take this one


@dataclass(frozen=True)
class QParams:
    """One scale and zero point: real = scale * (integer - zero_point).

    `scale` is a float32 value (held as a Python float), `zero_point` an integer in
    [low, high]. The integers themselves are held in `dtype`.
    """

    scale: float
    zero_point: int
    low: int = 0
    high: int = 255

    @property
    def dtype(self) -> torch.dtype:
        """The integer type that holds the values."""
        return _smallest_dtype(self.low, self.high)

    def bounds(self) -> tuple[float, float]:
        """The smallest and largest real number that can be represented."""
        return (self.scale * (self.low - self.zero_point),
                self.scale * (self.high - self.zero_point))

    def integer(self, value: float) -> int:
        """The integer for one real number: round half to even, then saturate."""
        steps = np.rint(np.float32(value) / np.float32(self.scale))
        return int(np.clip(steps + self.zero_point, self.low, self.high))

    def __str__(self) -> str:
        return f"s={np.float32(self.scale)!s} z={self.zero_point}"


@dataclass(frozen=True)
class QSpec:
    """A quantized format: integer range, symmetric or affine, per tensor or per channel.

    Ranges follow the convention of torch's observers: zero is always representable, an
    affine scale is (max - min) / (high - low), a symmetric one max|x| / ((high - low) / 2).
    No scale is below SMALLEST: values so small stay in float (`fxq.formats`).
    With `power_of_two`, scales are rounded up to the next power of two, so that hardware can
    shift instead of multiply.
    """

    low: int
    high: int
    symmetric: bool = False
    per_channel: bool = False
    power_of_two: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"empty integer range [{self.low}, {self.high}]")

    def __str__(self) -> str:
        kind = "u" if self.low >= 0 else "s"
        return f"{kind}{self.bits}" + (" per channel" if self.per_channel else "") + (
            "" if self.symmetric else " affine")

    @property
    def bits(self) -> int:
        """How many bits one integer of this format takes."""
        return int(self.high - self.low).bit_length()

    @property
    def dtype(self) -> torch.dtype:
        """The integer type that holds the values."""
        return _smallest_dtype(self.low, self.high)

    def qparams(self, low: float, high: float) -> QParams:
        """Scale and zero point for real values in [low, high] (float32 arithmetic)."""
        scale, zero = self.scales(torch.tensor([low]), torch.tensor([high]))
        return QParams(float(scale), int(zero), self.low, self.high)

    def scales(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 scales and int32 zero points for real values in [low, high], elementwise."""
        low, high = low.float().clamp(max=0.0), high.float().clamp(min=0.0)
        steps = float(self.high - self.low)
        if self.symmetric:
            scale = self._scale(torch.maximum(-low, high), steps / 2)
            return scale, torch.full_like(scale, (self.low + self.high + 1) // 2, dtype=torch.int32)
        scale = self._scale(high - low, steps)
        zero = (self.low - torch.round(low / scale)).clamp(self.low, self.high)
        return scale, zero.to(torch.int32)

    def _scale(self, reach: Tensor, steps: float) -> Tensor:
        scale = torch.where(reach == 0, OF_ZEROS, (reach / steps).clamp(min=SMALLEST))
        return _power_of_two(scale) if self.power_of_two else scale


def least_scale(largest: Tensor) -> Tensor:
    """What a learned scale of values up to `largest` must not fall below, as it may in a step."""
    return (largest * OF_ZEROS).clamp(min=SMALLEST)


def _power_of_two(scale: Tensor) -> Tensor:
    """The least power of two that is not below `scale`, exactly."""
    mantissa, exponent = torch.frexp(scale)  # mantissa in [0.5, 1)
    return torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).int())


def signed(bits: int, *, per_channel: bool = False) -> QSpec:
    """Symmetric signed integers: -128 to 127 for 8 bits."""
    return QSpec(-(1 << (bits - 1)), (1 << (bits - 1)) - 1, symmetric=True,
                 per_channel=per_channel)


def unsigned(bits: int) -> QSpec:
    """Affine unsigned integers: 0 to 255 for 8 bits."""
    return QSpec(0, (1 << bits) - 1)


def _smallest_dtype(low: int, high: int) -> torch.dtype:
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        limits = torch.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return dtype
    raise ValueError(f"no integer type holds [{low}, {high}]")
