"""Regions on integers that float computes faster, measured: what `tune=True` keeps in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from fxq.analysis.placement import place
from fxq.analysis.regions import nanoseconds, regions
from fxq.compiler.build import built
from fxq.compiler.prepare import Prepared
from fxq.ir.facts import info
from fxq.ir.graph_module import copy_of
from fxq.ir.rewriter import Rewriter
from fxq.passes.convert import drop_observers
from fxq.profiler.advice import saved
from fxq.quantization.statistics import Statistics

CLEAR = 2.0  # a region that the cost table says gains more than this is not measured
MOST = 4  # regions that are measured, the most doubtful first: each is a compilation of its own
_ROUNDS, _BUDGET = 60, 0.5  # turns of both sides, and seconds for them


def slower_regions(prepared: Prepared, statistics: Statistics | None) -> frozenset[str]:
    """The values of the regions that a run is faster without, by turns of both whole models.

    A gain counts where the 95 % interval of its median is above zero.
    """
    found: frozenset[str] = frozenset()
    doubtful = doubtful_regions(prepared, statistics)
    before = _runner(prepared, statistics) if doubtful else None
    for values in doubtful:
        context = replace(prepared.context, slower=found | values)
        after = _runner(replace(prepared, context=context), statistics)
        assert before is not None
        if saved(before, after, _ROUNDS, _BUDGET).low > 0:
            found, before = context.slower, after
    return found


def doubtful_regions(prepared: Prepared, statistics: Statistics | None) -> list[frozenset[str]]:
    """The values of each region that the cost table is not sure of."""
    seen = prepared.statistics() if statistics is None else statistics
    context = replace(prepared.context, statistics=seen)
    costs = context.target.regions
    if costs is None or not context.scheme.quantized:
        return []
    module = copy_of(prepared.graph_module)
    drop_observers(Rewriter(module))
    placement, found = place(module, context), []
    for region in regions(module, placement.integer):
        floats, integers = nanoseconds(region, placement.float_output, costs)
        if floats < CLEAR * integers:
            found.append((floats / integers, frozenset(info(n).value for n in region)))
    return [values for _, values in sorted(found, key=lambda f: f[0])[:MOST]]


def _runner(prepared: Prepared, statistics: Statistics | None) -> Callable[[], Any]:
    return partial(built(prepared, statistics)[1].function, *prepared.inputs)
