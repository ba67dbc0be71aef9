"""Find an assignment within the limits, and measure it; say what binds where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf

from fxq.budget.limits import Assignment, Figures, Limits, not_within, shown
from fxq.budget.solve import Bounds, solve
from fxq.budget.table import Table
from fxq.errors import ConfigError
from fxq.profiler.sensitivity import overrides_of

TRIES = 4  # assignments that are built and measured before the search gives up
_MARGIN = 0.98  # of a bound that a measurement has missed
_BOUND = {"max_drop": "noise", "min_speedup": "us", "max_mb": "bytes"}
_NOTHING = Figures(0.0, 0.0, 0, 0.0)
Measure = Callable[[Assignment], Figures]


@dataclass(frozen=True)
class Point:
    """One assignment: predicted, and measured where it was built."""

    name: str
    overrides: Mapping[str, str]
    predicted: Figures
    measured: Figures | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Outcome:
    """The assignment that was measured to be within the limits, and all that were looked at."""

    limits: Limits
    chosen: Point
    points: tuple[Point, ...]
    how: str = ""  # what a drop means

    def __str__(self) -> str:
        assert self.chosen.measured is not None
        rows = zip(self.limits.rows(self.chosen.measured), self.limits.rows(self.chosen.predicted),
                   strict=True)
        texts = [f"{name}={asked:g}: measured {shown(name, found)}, predicted "
                 f"{shown(name, expected)}" for (name, asked, found, _), (*_, expected, _) in rows]
        how = f" (drop: {self.how})" if self.how and self.limits.max_drop is not None else ""
        return "; ".join(texts) + how


def bounds_of(limits: Limits, table: Table) -> Bounds:
    """The limits in the units of the table. Raises ConfigError for a drop of what has no classes.
    """
    noise = inf
    if limits.max_drop is not None:
        if table.judge is None:
            raise ConfigError("max_drop needs a model that gives classes",
                              why="its first output is not (images, classes)",
                              fix="use min_speedup and max_mb, and look at the report's SQNR")
        noise = table.judge.variance_for(limits.max_drop)
    return Bounds(table.float_us / limits.min_speedup if limits.min_speedup else inf,
                  limits.max_mb * 1e6 if limits.max_mb else inf, noise)


def search(table: Table, limits: Limits, measure: Measure) -> tuple[Point, list[Point]]:
    """The first assignment that is measured to be within the limits, and those that were not.

    Where a drop is allowed it is the fastest within the limits, else the most exact. A bound that
    a measurement has missed is drawn in by as much, and the program solved again. Raises
    BudgetError where none is predicted to be within, or none of TRIES is measured to be.
    """
    asked = bounds = bounds_of(limits, table)
    objective = "us" if limits.max_drop is not None else "noise"
    missed: list[Point] = []
    for _ in range(TRIES):
        found = solve(table, bounds, objective)
        if found is None:
            break
        point = point_of(table, found, measure)
        assert point.measured is not None
        if limits.met(point.measured):
            return replace(point, chosen=True), missed
        missed.append(point)
        bounds = _tighter(bounds, limits, point, table, found)
    raise _none_is_met(limits, missed) if missed else _none_exists(table, limits, asked)


def point_of(table: Table, assignment: Assignment, measure: Measure | None = None) -> Point:
    """An assignment with its figures."""
    counts = {s: list(assignment.values()).count(s) for s in table.schemes}
    name = ", ".join(f"{count} {scheme}" for scheme, count in counts.items() if count)
    return Point(name, overrides_of(assignment, table.base), table.figures(assignment),
                 measure(assignment) if measure else None)


def _tighter(bounds: Bounds, limits: Limits, point: Point, table: Table,
             assignment: Assignment) -> Bounds:
    """Each bound that was missed, by what the prediction was off."""
    assert point.measured is not None
    changed = {}
    for name, asked, found, within in limits.rows(point.measured):
        if within:
            continue
        share = found / asked if name == "min_speedup" else asked / found
        spent = {"us": table.microseconds(assignment), "bytes": table.size(assignment),
                 "noise": table.variance(assignment)}[_BOUND[name]]
        changed[_BOUND[name]] = _MARGIN * min(share, 1.0) * min(
            spent, getattr(bounds, _BOUND[name]))
    return replace(bounds, **changed)


def _none_exists(table: Table, limits: Limits, bounds: Bounds) -> Exception:
    """For each limit that binds, the best that the others leave; where they do not, the best."""
    lines, best = [], {}
    for name, asked, *_ in limits.rows(_NOTHING):
        found = solve(table, replace(bounds, **{_BOUND[name]: inf}), _BOUND[name])
        alone = found is None
        found = found or solve(table, Bounds(), _BOUND[name])
        assert found is not None
        reached = next(v for n, _, v, _ in limits.rows(table.figures(found)) if n == name)
        short = _short(name, asked, reached)
        if not short:
            continue
        others = [n for n, *_ in limits.rows(_NOTHING) if n != name]
        where = "at any price" if alone or not others else f"with {' and '.join(others)} kept"
        lines.append(f"{name}={asked:g}: the best is {shown(name, reached)} {where}{short}")
        if not alone:
            best[name] = reached
    return not_within("\n".join(lines), best)


def _short(name: str, asked: float, found: float) -> str:
    """By how much a limit is missed; empty where it is not."""
    over = (asked - found if name == "min_speedup" else found - asked)
    if over <= 0:
        return ""
    return f", {over / asked:.0%} off" if asked else ", and nothing is allowed"


def _none_is_met(limits: Limits, missed: list[Point]) -> Exception:
    best = min(missed, key=lambda p: sum(not w for *_, w in limits.rows(_measured(p))))
    pairs = zip(limits.rows(_measured(best)), limits.rows(best.predicted), strict=True)
    lines = [f"{name}={asked:g}: measured {shown(name, found)}, predicted {shown(name, expected)}"
             + _short(name, asked, found) for (name, asked, found, _), (*_, expected, _) in pairs]
    why = f"predicted to be met, but not when it was measured ({len(missed)} tried); the nearest:\n"
    return not_within(why + "\n".join(lines), {
        n: f for n, _, f, w in limits.rows(_measured(best)) if not w})


def _measured(point: Point) -> Figures:
    assert point.measured is not None
    return point.measured

