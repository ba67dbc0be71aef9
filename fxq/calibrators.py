"""Rules that turn the statistics of a value into the range that its integers cover."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fxq.errors import ConfigError, did_you_mean
from fxq.qspec import QSpec
from fxq.statistics import TensorStatistics, Values

Calibrator = Callable[[TensorStatistics, QSpec], tuple[float, float]]
_SHRINK = np.concatenate([np.linspace(1.0, 0.5, 26), np.geomspace(0.49, 0.02, 20)])


def minmax(statistics: TensorStatistics, spec: QSpec) -> tuple[float, float]:
    """The exact extremes: nothing saturates on the calibration data."""
    return statistics.minimum, statistics.maximum


def mse(statistics: TensorStatistics, spec: QSpec) -> tuple[float, float]:
    """The range with the smallest expected squared error of quantization.

    Inside the range a value errs by at most step²/12 on average (never by more than itself),
    outside by its distance to the bound. First the upper bound is searched, then the lower.
    """
    low, high = min(statistics.minimum, 0.0), max(statistics.maximum, 0.0)
    if not statistics.counts.size or low == high:
        return low, high
    values, counts = statistics.histogram()
    for _ in range(2):
        high = _best(values, counts, [(low, high * s) for s in _SHRINK], spec)[1]
        low = _best(values, counts, [(low * s, high) for s in _SHRINK], spec)[0]
    return low, high


def _best(values: Values, counts: Values, ranges: list[tuple[float, float]],
          spec: QSpec) -> tuple[float, float]:
    errors = _expected_errors(values, counts, np.array(ranges), spec.high - spec.low)
    return ranges[int(np.argmin(errors))]


def _expected_errors(values: Values, counts: Values, ranges: Values, steps: int) -> Values:
    low, high = ranges[:, :1], ranges[:, 1:]
    step = (high - low) / steps
    clipped = np.maximum(values - high, 0) + np.maximum(low - values, 0)
    rounding = np.minimum(values**2, step**2 / 12)
    error: Values = np.where(clipped > 0, clipped**2, rounding) @ counts
    return error


CALIBRATORS: Mapping[str, Calibrator] = {"minmax": minmax, "mse": mse}


def get_calibrator(name: str) -> Calibrator:
    """Look a calibrator up by name; raises ConfigError with the legal names."""
    if name not in CALIBRATORS:
        raise ConfigError(f"unknown calibrator {name!r}", fix=did_you_mean(name, CALIBRATORS))
    return CALIBRATORS[name]
