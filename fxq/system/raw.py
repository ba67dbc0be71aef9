"""The bytes of values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def raw_bytes(tensor: Tensor) -> bytes:
    """The bytes of a tensor in the order of its indices, however it lies in memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)  # sizes of 1 may have any stride
    return flat.view(torch.uint8).numpy().tobytes()


def value_bytes(value: Any) -> bytes:
    """The bytes of an output: a tensor, or a number that was computed from shapes."""
    return raw_bytes(value) if isinstance(value, Tensor) else repr(value).encode()
