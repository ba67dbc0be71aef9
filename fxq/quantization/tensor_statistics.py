"""What calibration remembers of one value: exact extremes and counts on one fixed grid.

Everything is exact and mergeable: minimum and maximum, and integer counts of a strided sample
on a grid that is the same for all tensors (the top bits of the float32: sign, exponent and
five bits of mantissa, so a bin is about 3 % wide). Merging is commutative and associative,
so any split of the data over any number of workers gives the same result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

SHIFT = 18  # of a float32's bits: 1 sign, 8 exponent and 5 mantissa bits are left
BINS = 1 << (32 - SHIFT)
MEAN_STEPS = float(1 << 32)
EXTREME = 1 / 64  # of a sampled element
SMALLEST_STEPS = 1 << 149  # of the smallest positive float32 in 1.0
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def bin_values() -> Values:
    """The real number in the middle of each bin, in the order of the bins' bit patterns."""
    bits = (np.arange(BINS, dtype=np.uint32) << np.uint32(SHIFT)) + np.uint32(1 << (SHIFT - 1))
    with np.errstate(invalid="ignore"):  # the last bins are NaN's own, and never filled
        values = bits.view(np.float32).astype(np.float64)
    values[0] = values[BINS // 2] = 0.0  # the bins of zero hold nothing that matters beside it
    return values


def exact_steps(value: float) -> int:
    """A float32 as an integer number of the smallest steps: no rounding, ever."""
    numerator, denominator = value.as_integer_ratio()
    return numerator * (SMALLEST_STEPS // denominator)


def _add(a: Counts, b: Counts) -> Counts:
    return a + b if a.size == b.size else (a if a.size else b)


@dataclass(frozen=True)
class TensorStatistics:
    """Extremes, counts and channel sums of one value.

    `channel_sums` adds up the mean of each channel in each batch, as integers in steps of
    1 / MEAN_STEPS, so that sums are exact in any order; empty where no layer needs them.

    `minimum_sum` and `maximum_sum` add up the extremes of each batch, as integers in steps of
    the smallest float32, so that their average is exact in any order too.

    `finest` is the smallest deviation of a row that a layer norm divides by its deviation; inf
    where none does.

    `minimum` > `maximum` means that nothing was seen. `counts` is empty when only the range
    is known (statistics that were given, not measured).
    """

    minimum: float = math.inf
    maximum: float = -math.inf
    counts: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    batches: int = 0
    channel_sums: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    minimum_sum: int = 0
    maximum_sum: int = 0
    finest: float = math.inf

    @property
    def seen(self) -> bool:
        return self.minimum <= self.maximum

    def merge(self, other: TensorStatistics) -> TensorStatistics:
        """The statistics of both data sets together."""
        return TensorStatistics(
            min(self.minimum, other.minimum), max(self.maximum, other.maximum),
            _add(self.counts, other.counts), self.batches + other.batches,
            _add(self.channel_sums, other.channel_sums),
            self.minimum_sum + other.minimum_sum, self.maximum_sum + other.maximum_sum,
            min(self.finest, other.finest))

    def average_extremes(self) -> tuple[float, float]:
        """The mean over the batches of their minimum and maximum."""
        if not self.batches:
            return self.minimum, self.maximum
        steps = self.batches * SMALLEST_STEPS
        return self.minimum_sum / steps, self.maximum_sum / steps

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the sampled elements, from the counts."""
        values, counts = self.histogram()
        total = counts.sum()
        if not total:
            middle = (self.minimum + self.maximum) / 2
            return middle, (self.maximum - self.minimum) / math.sqrt(12)  # as if spread evenly
        mean = float(values @ counts / total)
        return mean, math.sqrt(float((values - mean) ** 2 @ counts / total))

    def channel_means(self) -> Values | None:
        """The mean of each channel over all batches, or None when it was not observed."""
        if not self.channel_sums.size or not self.batches:
            return None
        means: Values = self.channel_sums / (MEAN_STEPS * self.batches)
        return means

    def histogram(self) -> tuple[Values, Values]:
        """Bin values in rising order, clipped to the exact extremes, and how often each is.

        The extremes were seen at least once, and the sample, which has one element of 31 to 127
        for most layers, may have missed them: each counts as its share of such an element. With
        whole counts the mse of 8 bits follows single outliers (MobileNetV2 loses 3 dB); with none,
        16 bits lose 45 dB.
        """
        filled = np.flatnonzero(self.counts)
        if not filled.size:
            return np.zeros(0), np.zeros(0)
        values = bin_values()[filled]
        order = np.argsort(values, kind="stable")
        clipped = np.clip(values[order], self.minimum, self.maximum)
        return (np.concatenate([[self.minimum], clipped, [self.maximum]]),
                np.concatenate([[EXTREME], self.counts[filled][order], [EXTREME]]))
