"""Averages of integers: windows that slide over an image, and means over whole dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.ir.requantize import requantized
from fxq.ir.rewriter import declare_pure

_POOLS: dict[int, Callable[..., Tensor]] = {2: F.avg_pool2d, 3: F.avg_pool3d}


@declare_pure
def average(input: Tensor, *, zero_in: int, multiplier: float = 1.0, zero: int, low: int,
            high: int, dtype: torch.dtype = torch.uint8, **pool: Any) -> Tensor:
    """The mean over `dims`, or over the windows of an average pool of torch, adaptive ones
    included (`output_size`).

    rint(float32(sum of (x - zero_in)) / float32(count)), times `multiplier` before rounding
    where that is not 1: the input's scale over the result's.
    """
    values = _means(input.double() - zero_in, **pool)
    return requantized(values if multiplier == 1.0 else values * multiplier, zero, low, high, dtype)


@declare_pure
def average_float(input: Tensor, *, zero_in: int, scale: float, **pool: Any) -> Tensor:
    """A mean whose float32 result is read: all bits of its sums are kept."""
    return _means(input.double() - zero_in, **pool) * scale


def _means(steps: Tensor, dims: Sequence[int] | None = None, keepdim: bool = True,
           kernel_size: Any = None, output_size: Sequence[int | None] | None = None,
           **geometry: Any) -> Tensor:
    """Each exact sum as float32, divided by its count."""
    if dims is not None:
        sums, counts = _whole(steps, dims, keepdim)
    elif output_size is not None:
        sums, counts = _shares(steps, output_size)
    else:
        sums, counts = _windows(steps, kernel_size, **geometry)
    return sums.float() / counts.float()


def _whole(steps: Tensor, dims: Sequence[int], keepdim: bool) -> tuple[Tensor, Tensor]:
    sums = steps.sum(list(dims), keepdim=keepdim)
    return sums, sums.new_full((), steps.numel() / max(sums.numel(), 1))


def _shares(steps: Tensor, sizes: Sequence[int | None]) -> tuple[Tensor, Tensor]:
    """Result i of n takes what lies from floor(i * size / n) to ceil((i + 1) * size / n)."""
    counts = steps.new_ones(())
    for dim, parts in zip(range(-len(sizes), 0), sizes, strict=True):
        size = steps.shape[dim]
        steps, numbers = _summed(steps, dim, size, size if parts is None else parts)
        counts = counts.unsqueeze(-1) * numbers
    return steps, counts


def _summed(steps: Tensor, dim: int, size: int, parts: int) -> tuple[Tensor, Tensor]:
    index = torch.arange(parts, device=steps.device)
    first, last = index * size // parts, -(-(index + 1) * size // parts)
    sums = torch.cat([torch.zeros_like(steps.narrow(dim, 0, 1)), steps.cumsum(dim)], dim)
    return sums.index_select(dim, last) - sums.index_select(dim, first), (last - first).double()


def _windows(steps: Tensor, kernel_size: Any, **geometry: Any) -> tuple[Tensor, Tensor]:
    """Sums and counts of all windows, as torch places them; a count is a sum of ones."""
    rank = len(kernel_size)
    if rank == 1:  # torch has no divisor for signals: they are images of one row
        for name, absent in (("stride", 1), ("padding", 0)):
            if name in geometry:
                geometry[name] = (absent, *geometry[name])
        sums, counts = _windows(steps.unsqueeze(-2), (1, *kernel_size), **geometry)
        return sums.squeeze(-2), counts.squeeze(-2)
    pool = _POOLS[rank]
    ones = torch.ones_like(steps[:1, :1])
    sums = pool(steps, kernel_size, divisor_override=1, **geometry)
    inside = pool(ones, kernel_size, divisor_override=1, **geometry)
    # torch divides by the window, clipped or not: the share of its ones says by how much
    counts = torch.round(inside / pool(ones, kernel_size, **geometry))
    return sums, counts
