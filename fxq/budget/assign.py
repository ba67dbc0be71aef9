"""Mixed precision within budgets: from a calibrated model to overrides that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Any

from fxq.budget.candidates import measured_table
from fxq.budget.judge import judge_of, labels_of, logits_of
from fxq.budget.limits import Limits
from fxq.budget.measure import Bench
from fxq.budget.pareto import front
from fxq.budget.search import Outcome, search
from fxq.compiler.prepare import Prepared
from fxq.compiler.verify import run
from fxq.errors import CalibrationError, ConfigError
from fxq.frontend.batches import Transform, batches
from fxq.profiler.first_order import fused_graph_of
from fxq.quantization.schemes import Mode
from fxq.quantization.statistics import Statistics
from fxq.system.torch_state import isolated, quiet


def assign(prepared: Prepared, statistics: Statistics, items: Sequence[Any], limits: Limits, *,
           transform: Transform | None = None, runtime: str | None = None) -> Outcome:
    """The schemes of all layers within the limits, as overrides, verified by measuring.

    `items` are the calibration batches; a drop is judged on all of them. Raises BudgetError when
    nothing is within the limits, CalibrationError for no batches, ConfigError for a scheme whose
    layers cannot be told apart.
    """
    bench = bench_for(prepared, statistics, items, transform, runtime)
    table = measured_table(bench)
    measure = partial(bench.measure, float_us=table.float_us)
    chosen, missed = search(table, limits, measure)
    points = front(table, measure, limits.max_mb * 1e6 if limits.max_mb else inf)
    known = [p for p in points if p.overrides != chosen.overrides]
    ordered = sorted((chosen, *missed, *known), key=lambda p: p.predicted.ms)
    return Outcome(limits, chosen, tuple(ordered), bench.judge.how if bench.judge else "")


def bench_for(prepared: Prepared, statistics: Statistics, items: Sequence[Any],
              transform: Transform | None = None, runtime: str | None = None) -> Bench:
    """What every assignment is measured on. Raises CalibrationError for no batches."""
    scheme = prepared.context.scheme
    if scheme.overrides or scheme.trained:
        raise ConfigError("a budget chooses the overrides itself",
                          why="the scheme is trained" if scheme.trained else "some were given",
                          fix="drop the overrides, or the budget")
    if scheme.mode is Mode.HALF or not scheme.quantized:
        raise ConfigError(f"a budget cannot start from scheme {scheme.name!r}",
                          why="layers are mixed from integers and float32; half precision and "
                              "integers do not share a model",
                          fix='pass scheme="int8_static"')
    signature = prepared.convention.signature
    flat = list(batches(items, signature, transform))
    if not flat:
        raise CalibrationError("a budget needs calibration data: errors are predicted on it",
                               fix="pass calibration_data=loader")
    module = fused_graph_of(prepared)
    with isolated(), quiet():
        logits = logits_of(lambda *x: run(module, x), flat)
    labels = labels_of(items, transform, len(signature.names), [len(x[0]) for x in flat])
    return Bench(prepared, statistics, flat, judge_of(logits, labels), runtime)

