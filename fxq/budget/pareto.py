"""The trade-off: of each latency the most exact assignment, and what it was measured to be."""

from __future__ import annotations

from math import inf

import numpy as np

from fxq.budget.search import Measure, Point, point_of
from fxq.budget.solve import Bounds, solve
from fxq.budget.table import Table

STEPS = 5  # latencies between the fastest and the most exact


def front(table: Table, measure: Measure | None, max_bytes: float = inf,
          steps: int = STEPS) -> list[Point]:
    """Assignments of which none is faster and as exact as another, fastest first."""
    ends = [solve(table, Bounds(bytes=max_bytes), objective) for objective in ("us", "noise")]
    if ends[0] is None or ends[1] is None:
        return []
    slowest, fastest = (table.microseconds(end) for end in (ends[1], ends[0]))
    found = dict[tuple[str, ...], Point]()
    for us in np.linspace(min(fastest, slowest), max(fastest, slowest), steps):
        assignment = solve(table, Bounds(us=float(us) * (1 + 1e-6), bytes=max_bytes), "noise")
        key = tuple(assignment.values()) if assignment else ()
        if assignment is not None and key not in found:
            found[key] = point_of(table, assignment, measure)
    return list(found.values())
