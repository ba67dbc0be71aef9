"""Fair timing of several functions: turn by turn, so that drift hits all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

LOW, HIGH = 10, 90  # percentiles between which a spread lies


@dataclass
class Clock:
    """Seconds of the named steps of a piece of work, in order."""

    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block; a block that raises is not recorded."""
        start = time.perf_counter()
        yield
        self.steps.append((name, time.perf_counter() - start))

    def totals(self) -> dict[str, float]:
        """Seconds by name, in the order of the first of each."""
        found: dict[str, float] = {}
        for name, seconds in self.steps:
            found[name] = found.get(name, 0.0) + seconds
        return found


@dataclass(frozen=True)
class Spread:
    """A median and the interval around it, in the unit of the samples."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, samples: npt.ArrayLike, scale: float = 1.0) -> Spread:
        """The median with the 10th and the 90th percentile: how single rounds differ."""
        low, middle, high = np.percentile(np.asarray(samples), [LOW, 50, HIGH]) * scale
        return cls(float(low), float(middle), float(high))

    @classmethod
    def of_median(cls, samples: npt.ArrayLike, scale: float = 1.0) -> Spread:
        """The median with its own 95 % interval, from order statistics: no distribution assumed.

        (W. J. Conover, Practical Nonparametric Statistics, section 3.2.) It is the whole range for
        fewer than six samples.
        """
        ordered = np.sort(np.asarray(samples)) * scale
        place = max(math.floor(len(ordered) / 2 - 0.98 * math.sqrt(len(ordered))) - 1, 0)
        return cls(float(ordered[place]), float(np.median(ordered)), float(ordered[-1 - place]))

    @property
    def relative(self) -> float:
        """Width of the interval as a share of the median."""
        return (self.high - self.low) / abs(self.middle) if self.middle else math.inf

    def apart(self, other: Spread) -> bool:
        """The two intervals have no point in common."""
        return self.low > other.high or other.low > self.high

    def times(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.low * factor, self.middle * factor, self.high * factor)

    def shown(self, digits: int = 0) -> str:
        """"12 [10, 15]"."""
        return f"{self.middle:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def turns(functions: Sequence[Callable[[], Any]], rounds: int = 15, *,
          budget: float = math.inf, least: int = 3,
          clock: Callable[[], float] = time.perf_counter) -> list[list[float]]:
    """Seconds of each call: one list per function, one entry per round.

    It stops after `rounds`, or once `budget` seconds are spent and `least` rounds are done.
    """
    samples: list[list[float]] = [[] for _ in functions]
    end = clock() + budget
    for turn in range(rounds):
        for function, kept in zip(functions, samples, strict=True):
            start = clock()
            function()
            kept.append(clock() - start)
        if turn + 1 >= least and clock() > end:
            break
    return samples


def race(functions: Sequence[Callable[[], Any]], rounds: int = 15, *,
         budget: float = math.inf) -> list[float]:
    """Median seconds of each function over `rounds` turns, or fewer once `budget` is spent."""
    return [float(np.median(kept)) for kept in turns(functions, rounds, budget=budget)]
