"""What a user allows, what an assignment is predicted to cost, and what it was measured to cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fxq.errors import BudgetError, ConfigError

Assignment = Mapping[str, str]  # the scheme of each layer, by its path


@dataclass(frozen=True)
class Figures:
    """Milliseconds of a run, times as fast as float, bytes of parameters, points of top-1 lost.

    `speedup` is what is certain: measured, the lower end of the 95 % interval of its median. `ms`
    is float's time divided by the median, so that figures of different minutes can be compared.
    `drop` is None for a model that gives no classes.
    """

    ms: float
    speedup: float
    bytes: int
    drop: float | None


@dataclass(frozen=True)
class Limits:
    """Points of top-1 that may be lost, times that it must be faster than float, megabytes."""

    max_drop: float | None = None
    min_speedup: float | None = None
    max_mb: float | None = None

    def __post_init__(self) -> None:
        for name, value, low in (("max_drop", self.max_drop, 0.0),
                                 ("min_speedup", self.min_speedup, None),
                                 ("max_mb", self.max_mb, None)):
            if value is not None and not (math.isfinite(value) and (
                    value > 0 if low is None else value >= low)):
                raise ConfigError(f"{name}={value!r}", why="a budget is a positive number",
                                  fix="max_drop in points, min_speedup in times float, max_mb in "
                                      "megabytes")

    def __bool__(self) -> bool:
        return any(v is not None for v in (self.max_drop, self.min_speedup, self.max_mb))

    def rows(self, found: Figures) -> Iterator[tuple[str, float, float, bool]]:
        """(name, what was asked for, what was found, whether that is within) of each limit."""
        if self.max_drop is not None and found.drop is not None:
            yield "max_drop", self.max_drop, found.drop, found.drop <= self.max_drop
        if self.min_speedup is not None:
            yield "min_speedup", self.min_speedup, found.speedup, found.speedup >= self.min_speedup
        if self.max_mb is not None:
            yield "max_mb", self.max_mb, found.bytes / 1e6, found.bytes <= 1e6 * self.max_mb

    def met(self, found: Figures) -> bool:
        """All of them are."""
        return all(within for *_, within in self.rows(found))


UNITS = {"max_drop": " points", "min_speedup": "x", "max_mb": " MB"}


def shown(name: str, value: float) -> str:
    """A figure with its unit; bytes to the kilobyte."""
    return f"{value:.3f}{UNITS[name]}" if name == "max_mb" else f"{value:.2f}{UNITS[name]}"


def _loosened(name: str, value: float) -> float:
    """A figure to three digits, on the side that can be met."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2) if value > 0 else 0.01
    towards = math.floor if name == "min_speedup" else math.ceil
    return float(f"{towards(value / step) * step:.6g}")


def not_within(why: str, best: Mapping[str, float]) -> BudgetError:
    """No model within the budget: what binds, and a budget that could be met instead."""
    ways = [f"{name}={_loosened(name, value):g}" for name, value in best.items()]
    return BudgetError("no assignment of schemes meets the budget", why=why, fix=(
        f"allow {' or '.join(ways)}, or drop a limit" if ways else "allow more, or drop a limit"))
