"""What `fxq check` does: hold a compiled model to limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from fxq.cli.measure import Subject, compared
from fxq.errors import ConfigError
from fxq.system.timing import Spread, turns


@dataclass(frozen=True)
class Gate:
    """One limit: what was asked, what was found, and why that does not count, if it does not."""

    name: str
    asked: str
    found: str
    holds: bool
    reason: str = ""


def gates(about: Subject, max_drop: float | None, min_speedup: float | None,
          max_mb: float | None, min_sqnr: float | None) -> list[Gate]:
    """Check each limit that was given; raises ConfigError for none, or for missing labels."""
    found: list[Gate] = []
    if max_mb is not None:
        size = about.compiled.size_bytes / 1e6
        found.append(Gate("size", f"<= {max_mb:g} MB", f"{size:.3f} MB", size <= max_mb))
    if max_drop is not None or min_sqnr is not None:
        seen = compared(about, 0)
        if min_sqnr is not None:
            found.append(Gate("SQNR", f">= {min_sqnr:g} dB", f"{seen.sqnr:.1f} dB",
                              seen.sqnr >= min_sqnr))
        if max_drop is not None:
            if seen.drop is None:
                raise ConfigError("--max-drop needs labels",
                                  why="the data has images only",
                                  fix="one folder per class, --labels FILE, --class-map FILE, or "
                                      "module:loader with (x, label)")
            found.append(Gate("top-1", f"drop <= {max_drop:g} points",
                              f"{seen.float_top1:.2f} % -> {seen.top1:.2f} %",
                              seen.drop <= max_drop and not seen.doubt, seen.doubt))
    if min_speedup is not None:
        faster = speedup(about)
        found.append(Gate("speed-up", f">= {min_speedup:g}x", f"{faster.shown(2)}x",
                          faster.low >= min_speedup))
    if not found:
        raise ConfigError("there is nothing to check",
                          fix="pass --max-drop, --min-speedup, --max-mb or --min-sqnr")
    return found


def speedup(about: Subject) -> Spread:
    """Float over compiled on one input, turn by turn: the median round and its 95 % interval."""
    x = about.example()
    floats: Any = about.model or about.compiled.float_graph(activations_only=True)
    with torch.no_grad():
        slow, fast = turns([lambda: floats(x), lambda: about.compiled(x)], 30, budget=6.0)
    return Spread.of_median(np.divide(slow, fast))


def gate_table(found: list[Gate]) -> str:
    """One line per gate, and below why one fails whatever its figures are."""
    rows = [(g.name, g.asked, g.found, "ok" if g.holds else "FAILED") for g in found]
    reasons = [f"{g.name}: {g.reason}" for g in found if g.reason]
    return "\n".join([str(tabulate(rows, headers=("gate", "asked", "found", ""))), *reasons])
