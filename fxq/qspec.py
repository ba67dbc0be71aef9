"""Number formats: which integers a value may take, and how they map to real numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

_EPS = np.float32(torch.finfo(torch.float32).eps)  # smallest scale, as torch's observers have it


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
    """

    low: int
    high: int
    symmetric: bool = False
    per_channel: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"empty integer range [{self.low}, {self.high}]")

    @property
    def dtype(self) -> torch.dtype:
        for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
            limits = torch.iinfo(dtype)
            if limits.min <= self.low and self.high <= limits.max:
                return dtype
        raise ValueError(f"no integer type holds [{self.low}, {self.high}]")

    def qparams(self, low: float, high: float) -> QParams:
        """Scale and zero point for real values in [low, high] (float32 arithmetic)."""
        lo, hi = np.float32(min(low, 0.0)), np.float32(max(high, 0.0))
        steps = np.float32(self.high - self.low)
        if self.symmetric:
            scale = np.maximum(np.maximum(-lo, hi) / (steps / np.float32(2)), _EPS)
            zero = (self.low + self.high + 1) // 2
        else:
            scale = np.maximum((hi - lo) / steps, _EPS)
            zero = int(np.clip(self.low - int(np.rint(lo / scale)), self.low, self.high))
        return QParams(float(scale), zero, self.low, self.high)

    def channel_scales(self, limits: torch.Tensor) -> torch.Tensor:
        """Symmetric float32 scales for the largest magnitude of each channel."""
        half = torch.tensor((self.high - self.low) / 2, dtype=torch.float32)
        return torch.clamp(limits.float() / half, min=float(_EPS))
