"""The module that watches one value during calibration and passes it on unchanged."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from fxq.errors import CalibrationError
from fxq.statistics import BINS, MEAN_STEPS, SHIFT, TensorStatistics

_STRIDE = 31  # every 31st element in memory: coprime to the usual sizes of channels and rows
_SMALL = 4096  # tensors up to this many elements are counted whole
_LARGEST_MEAN = 2.0**20  # beyond it no bias correction makes sense, and sums stay exact
_BUFFER = 1 << 16  # sampled elements that wait for one bincount


class Observer(nn.Module):
    """Keeps exact extremes and counts of a strided sample; memory is constant.

    Raises CalibrationError for NaN or infinity, naming the value.
    """

    def __init__(self, key: str, where: str, channel_axis: int | None = None) -> None:
        super().__init__()
        self.key, self.where, self.channel_axis = key, where, channel_axis
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.minimum, self.maximum = math.inf, -math.inf
        self.batches = 0
        self.counts = np.zeros(BINS, np.int64)
        self.channel_sums = np.zeros(0, np.int64)
        self._waiting: list[Tensor] = []
        self._waiting_size = 0

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() > 0:
            self._observe(_in_memory_order(input.detach()))
            if self.channel_axis is not None:
                self._observe_channels(input.detach(), self.channel_axis)
        return input

    def _observe_channels(self, x: Tensor, axis: int) -> None:
        """Add the mean of each channel over a quarter of the batch."""
        part = x[: -(-x.shape[0] // 4)]
        dims = [d for d in range(x.dim()) if d != axis % x.dim()]
        means = part.mean(dims, dtype=torch.float32).double().cpu().numpy()
        sums = np.rint(np.clip(means, -_LARGEST_MEAN, _LARGEST_MEAN) * MEAN_STEPS).astype(np.int64)
        self.channel_sums = sums if not self.channel_sums.size else self.channel_sums + sums

    def _observe(self, flat: Tensor) -> None:
        low, high = (t.item() for t in torch.aminmax(flat))
        if not math.isfinite(high - low):
            raise CalibrationError(
                f"{self.key} is not finite: it spans [{low}, {high}]", where=self.where,
                why="no range can be chosen for NaN or infinity",
                fix="check the data and its normalization, and the weights of the model")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.batches += 1
        sample = flat if flat.numel() <= _SMALL else flat[::_STRIDE]
        self._waiting.append(sample.clone())
        self._waiting_size += sample.numel()
        if self._waiting_size >= _BUFFER:
            self._count()

    def _count(self) -> None:
        if not self._waiting:
            return
        sample = torch.cat(self._waiting).contiguous()
        bins = (sample.view(torch.int32) >> SHIFT) & (BINS - 1)
        self.counts += torch.bincount(bins, minlength=BINS).cpu().numpy()
        self._waiting, self._waiting_size = [], 0

    def statistics(self) -> TensorStatistics:
        """What was seen so far."""
        self._count()
        return TensorStatistics(self.minimum, self.maximum, self.counts.copy(), self.batches,
                                self.channel_sums.copy())


def _in_memory_order(x: Tensor) -> Tensor:
    """All elements as one float32 vector, without a copy for dense layouts."""
    x = x if x.dtype == torch.float32 else x.float()
    if x.is_contiguous():
        return x.view(-1)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).reshape(-1)
    return x.reshape(-1)
