"""The module that watches one value during calibration and passes it on unchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from fxq.errors import CalibrationError
from fxq.quantization.tensor_statistics import (
    BINS,
    MEAN_STEPS,
    SHIFT,
    Counts,
    TensorStatistics,
    exact_steps,
)

# Elements lie this far apart in the sample: primes, coprime to the usual sizes of rows and
# channels; the first that leaves at most _SAMPLE of them.
_STRIDES = (1, 31, 127, 509, 2039)
_SAMPLE = 8192
_BUFFER = 1 << 16  # sampled elements that wait for one bincount
_WAITING_MEANS = 64  # batches whose channel means wait to be added up
_LARGEST_MEAN = 2.0**20  # beyond it no bias correction makes sense, and sums stay exact


@dataclass(slots=True)
class _State:
    """What was seen. No attributes of the module itself: torch makes setting those slow."""

    minimum: float = math.inf
    maximum: float = -math.inf
    minimum_sum: int = 0
    maximum_sum: int = 0
    finest: float = math.inf
    batches: int = 0
    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))
    channel_sums: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    samples: list[Tensor] = field(default_factory=list)
    sampled: int = 0
    means: list[Tensor] = field(default_factory=list)

    def count(self) -> None:
        """Empty the buffers into the counts and sums."""
        if self.samples:
            bins = (torch.cat(self.samples).view(torch.int32) >> SHIFT) & (BINS - 1)
            self.counts += torch.bincount(bins, minlength=BINS).cpu().numpy()
        if self.means:
            means = torch.stack(self.means).double().clamp_(-_LARGEST_MEAN, _LARGEST_MEAN)
            sums = (means * MEAN_STEPS).round().to(torch.int64).sum(0).cpu().numpy()
            self.channel_sums = self.channel_sums + sums if self.channel_sums.size else sums
        self.samples, self.sampled, self.means = [], 0, []


class Observer(nn.Module):
    """Keeps exact extremes and counts of a strided sample; memory is constant.

    With `channel_axis`, also the mean of each channel over a quarter of each batch. With
    `row_rank`, also the smallest deviation of a row (the last so many dimensions, which a layer
    norm divides by it). Raises CalibrationError for NaN or infinity, naming the value.
    """

    def __init__(self, key: str, where: str, channel_axis: int | None = None,
                 row_rank: int = 0) -> None:
        super().__init__()
        self.key, self.where, self.channel_axis = key, where, channel_axis
        self.row_rank = row_rank
        self.state = _State()

    def reset(self) -> None:
        """Forget everything."""
        self.state = _State()

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() > 0:
            self._observe(input)
        return input

    __call__ = forward  # no hooks: an observer costs what it computes, and no more

    def _observe(self, x: Tensor) -> None:
        state, flat = self.state, _in_memory_order(x)
        lowest, highest = torch.aminmax(flat)
        low, high = lowest.item(), highest.item()
        if not math.isfinite(high - low):
            raise CalibrationError(
                f"{self.key} is not finite: it spans [{low}, {high}]", where=self.where,
                why="no range can be chosen for NaN or infinity",
                fix="check the data and its normalization, and the weights of the model")
        state.minimum, state.maximum = min(state.minimum, low), max(state.maximum, high)
        state.minimum_sum += exact_steps(low)
        state.maximum_sum += exact_steps(high)
        state.batches += 1
        sample = flat[::stride_for(flat.numel())].clone()
        state.samples.append(sample)
        state.sampled += sample.numel()
        if self.channel_axis is not None:
            state.means.append(_channel_means(x, self.channel_axis))
        if self.row_rank:
            state.finest = min(state.finest, _finest_row(x, self.row_rank))
        if state.sampled >= _BUFFER or len(state.means) >= _WAITING_MEANS:
            state.count()

    def statistics(self) -> TensorStatistics:
        """What was seen so far."""
        self.state.count()
        s = self.state
        return TensorStatistics(s.minimum, s.maximum, s.counts.copy(), s.batches,
                                s.channel_sums.copy(), s.minimum_sum, s.maximum_sum, s.finest)


@lru_cache(maxsize=4096)
def stride_for(count: int) -> int:
    """How far apart the sampled elements of a tensor with `count` elements lie."""
    return next((s for s in _STRIDES if count <= s * _SAMPLE), _STRIDES[-1])


@lru_cache
def _other_dims(rank: int, axis: int) -> tuple[int, ...]:
    return tuple(d for d in range(rank) if d != axis % rank)


def _channel_means(x: Tensor, axis: int) -> Tensor:
    part = x[: -(-x.shape[0] // 4)] if x.shape[0] > 1 else x
    dims = _other_dims(x.dim(), axis)
    return part.mean(dims, dtype=torch.float32) if dims else part.float()


def _finest_row(x: Tensor, rank: int) -> float:
    """The smallest standard deviation of a row that is not constant; inf where all are."""
    deviations = x.double().flatten(-rank).std(-1, correction=0)
    varied = deviations[deviations > 0]
    return float(varied.min()) if varied.numel() else math.inf


def _in_memory_order(x: Tensor) -> Tensor:
    """All elements as one float32 vector, without a copy for dense layouts."""
    x = x if x.dtype == torch.float32 else x.float()
    if x.is_contiguous():
        return x.view(-1)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).reshape(-1)
    return x.reshape(-1)
