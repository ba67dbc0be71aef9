"""Fair timing of several functions: turn by turn, so that drift hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def race(functions: Sequence[Callable[[], Any]], rounds: int = 15, *,
         budget: float = float("inf")) -> list[float]:
    """Median seconds of each function over `rounds` turns, or fewer once `budget` is spent."""
    samples: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + budget
    for turn in range(rounds):
        for function, kept in zip(functions, samples, strict=True):
            start = time.perf_counter()
            function()
            kept.append(time.perf_counter() - start)
        if turn >= 2 and time.perf_counter() > end:
            break
    return [statistics.median(kept) for kept in samples]
