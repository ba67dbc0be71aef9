"""When a profile's times may be believed: bounds on spread, coverage and the clocks' cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fxq.system.timing import Spread

if TYPE_CHECKING:
    from fxq.profiler.profile import Profile

# Chosen, not derived: what a reader would still call the same figure.
ROUNDS = 5  # fewer have no 10th percentile worth the name
SPREAD = 0.25  # 10 to 90 % of the runs, as a share of the median
COVERAGE = (0.85, 1.15)  # the nodes together, as a share of the run without clocks
CLOCKS = 0.15  # what clocks may add to a run


def doubts(profile: Profile) -> tuple[str, ...]:
    """One sentence for each figure that is out of bounds; none when the times can be believed."""
    return tuple(_doubts(profile))


def _doubts(profile: Profile) -> Iterator[str]:
    if profile.rounds < ROUNDS:
        yield f"only {profile.rounds} rounds were measured, {ROUNDS} are needed"
    for side, name in (("compiled", "plain_us"), ("float", "float_us"), ("called", "model_us")):
        spread = profile.spreads.get(name)
        if spread is not None and spread.relative > SPREAD:
            yield (f"the {side} run's rounds spread over {spread.relative:.0%} of their median, "
                   f"more than {SPREAD:.0%}")
    low, high = COVERAGE
    if not low <= profile.coverage <= high:
        yield (f"the nodes add up to {profile.coverage:.0%} of the run without clocks, outside of "
               f"{low:.0%} to {high:.0%}")
    clocks = profile.spreads["overhead"]
    if clocks.high < 0:
        yield "runs with clocks were faster than runs without them, which clocks cannot cause"
    elif clocks.high > CLOCKS:
        yield f"the clocks may cost as much as {clocks.high:.0%} of a run, more than {CLOCKS:.0%}"


def ratio_text(ratio: Spread | None) -> str:
    """How much faster than float, said only as far as the rounds agree."""
    if ratio is None:
        return "not measured"
    interval = f"{ratio.low:.2f} to {ratio.high:.2f}x"
    if ratio.low > 1:
        return f"{ratio.middle:.2f}x faster than float ({interval})"
    if ratio.high < 1:
        return f"{1 / ratio.middle:.2f}x slower than float (float / compiled: {interval})"
    return f"no difference from float beyond the noise (float / compiled: {interval})"


def clock_text(cost: Spread) -> str:
    """What the clocks cost; an interval that reaches zero gives no more than an upper bound."""
    if cost.high <= 0:
        return "not measurable: lost in the noise"
    if cost.low <= 0:
        return f"at most {cost.high:.1%}"
    return f"{cost.middle:.1%} [{cost.low:.1%}, {cost.high:.1%}]"


def figure(n: Any, name: str, digits: int = 0, scale: float = 1.0) -> str:
    """A measured figure of a node with its spread: "12.1 [11.0, 14.2]"."""
    spread = n.spreads.get(name)
    return "" if spread is None else spread.times(scale).shown(digits)
