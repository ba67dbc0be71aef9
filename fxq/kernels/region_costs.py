"""What integer operators between float ones cost beside float: a table of a target's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Nanoseconds: of a call, and of each multiply-accumulate, result and weight besides."""

    call: float
    mac: float
    grouped_mac: float  # of depthwise and grouped convolutions
    result: float
    weight: float

    def of(self, macs: int, grouped: bool, results: int, weights: int) -> float:
        """Nanoseconds of one operator without its call."""
        rate = self.grouped_mac if grouped else self.mac
        return macs * rate + results * self.result + weights * self.weight


@dataclass(frozen=True)
class RegionCosts:
    """Nanoseconds on both sides. Integers are called once for a region, floats for each operator.

    `enter` and `leave` are those of a number that crosses into integers or back, `output` of one
    that is given to torch. A loss below `least_loss` says nothing: callers differ by more.
    """

    floats: Work
    integers: Work
    enter: float
    leave: float
    output: float
    least_loss: float
