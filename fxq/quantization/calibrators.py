"""Rules that turn the statistics of a value into the range that its integers cover.

A rule is asked for by name, with parameters behind colons: "mse", "percentile:99.9",
"sigma:3", "fixed:-1:1".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fxq.errors import ConfigError, did_you_mean
from fxq.quantization.entropy import entropy
from fxq.quantization.formats import QSpec
from fxq.quantization.tensor_statistics import TensorStatistics, Values
from fxq.system import plugins

Range = tuple[float, float]
Calibrator = Callable[[TensorStatistics, QSpec], Range]
AUTO = "auto"  # the best of CANDIDATES for the layers behind the value: `auto_calibrator.py`
CANDIDATES = ("minmax", "mse", "percentile:99.99", "percentile:99.9", "entropy")
_SHRINK = np.concatenate([np.linspace(1.0, 0.5, 26), np.geomspace(0.49, 0.02, 20)])


def minmax() -> Calibrator:
    """The exact extremes: nothing saturates on the calibration data."""
    return lambda statistics, spec: (statistics.minimum, statistics.maximum)


def moving_average() -> Calibrator:
    """The average over the batches of their extremes.

    It is the plain mean, which, unlike an exponential average, is the same in any order.
    """
    return lambda statistics, spec: statistics.average_extremes()


def percentile(share: float = 99.99) -> Calibrator:
    """The range that holds this percentage of the values, as much cut off on either side."""
    if not 50 < share <= 100:
        raise ValueError("a percentile lies between 50 and 100")

    def choose(statistics: TensorStatistics, spec: QSpec) -> Range:
        values, counts = statistics.histogram()
        if not counts.size or share == 100:
            return statistics.minimum, statistics.maximum
        cut = (100 - share) / 200 * counts.sum()
        inside = np.cumsum(counts)
        low = values[np.searchsorted(inside, cut, "right")]
        high = values[np.searchsorted(inside, inside[-1] - cut, "left")]
        return float(low), float(high)

    return choose


def sigma(count: float = 3.0) -> Calibrator:
    """Mean ± `count` standard deviations, inside of the extremes."""
    if not count > 0:
        raise ValueError("the number of standard deviations must be positive")

    def choose(statistics: TensorStatistics, spec: QSpec) -> Range:
        mean, deviation = statistics.moments()
        reach = count * deviation
        return max(statistics.minimum, mean - reach), min(statistics.maximum, mean + reach)

    return choose


def fixed(low: float = -1.0, high: float = 1.0) -> Calibrator:
    """A range that is given."""
    if not low < high:
        raise ValueError("the lower bound comes first")
    return lambda statistics, spec: (low, high)


def mse() -> Calibrator:
    """The range with the smallest expected squared error of quantization.

    Inside the range a value errs by at most step²/12 on average (never by more than itself),
    outside by its distance to the bound. First the upper bound is searched, then the lower.
    """
    return lambda statistics, spec: search(statistics, spec, _expected_errors)


def kullback_leibler() -> Calibrator:
    """The range that loses least information (see `entropy.py`)."""
    return lambda statistics, spec: search(statistics, spec, entropy)


Cost = Callable[[Values, Values, Values, int], Values]


def search(statistics: TensorStatistics, spec: QSpec, cost: Cost) -> Range:
    """Shrink the upper bound, then the lower, to what costs least; twice."""
    low, high = min(statistics.minimum, 0.0), max(statistics.maximum, 0.0)
    if not statistics.counts.size or low == high:
        return low, high
    values, counts = statistics.histogram()

    def best(ranges: list[Range]) -> Range:
        errors = cost(values, counts, np.array(ranges), spec.high - spec.low)
        return ranges[int(np.argmin(errors))]

    for _ in range(2):
        high = best([(low, high * s) for s in _SHRINK])[1]
        low = best([(low * s, high) for s in _SHRINK])[0]
    return low, high


def _expected_errors(values: Values, counts: Values, ranges: Values, steps: int) -> Values:
    low, high = ranges[:, :1], ranges[:, 1:]
    step = (high - low) / steps
    clipped = np.maximum(values - high, 0) + np.maximum(low - values, 0)
    rounding = np.minimum(values**2, step**2 / 12)
    error: Values = np.where(clipped > 0, clipped**2, rounding) @ counts
    return error


@dataclass(frozen=True)
class CalibratorRow:
    """One rule: how to make it from its parameters, and how to ask for it."""

    make: Callable[..., Calibrator]
    usage: str


CALIBRATORS: Mapping[str, CalibratorRow] = {
    "minmax": CalibratorRow(minmax, "minmax"),
    "moving_average": CalibratorRow(moving_average, "moving_average"),
    "percentile": CalibratorRow(percentile, "percentile:99.99"),
    "mse": CalibratorRow(mse, "mse"),
    "entropy": CalibratorRow(kullback_leibler, "entropy"),
    "sigma": CalibratorRow(sigma, "sigma:3"),
    "fixed": CalibratorRow(fixed, "fixed:-1:1"),
}


def get_calibrator(name: str) -> Calibrator:
    """Look a rule up by name, plugins' included; raises ConfigError with the legal names."""
    base, *parameters = name.split(":")
    row = CALIBRATORS.get(base) or plugins.load_plugin(
        plugins.CALIBRATORS, base, CalibratorRow, (*CALIBRATORS, AUTO))
    if row is None:
        known = [AUTO, *(row.usage for row in CALIBRATORS.values()),
                 *plugins.plugins(plugins.CALIBRATORS)]
        raise ConfigError(f"unknown calibrator {name!r}", fix=did_you_mean(base, known))
    try:
        return row.make(*(float(p) for p in parameters))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"calibrator {name!r} cannot be built", why=str(error),
                          fix=f"write it like {row.usage!r}") from None
