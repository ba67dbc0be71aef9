"""The last step of every operator on integers: round, add the zero point, saturate."""

from __future__ import annotations

import torch
from torch import Tensor


def requantized(values: Tensor, zero: int, low: int, high: int, dtype: torch.dtype) -> Tensor:
    """clamp(rint(values) + zero, low, high), half to even; `values` are float32 in output steps."""
    return (torch.round(values) + zero).clamp_(low, high).to(dtype)
