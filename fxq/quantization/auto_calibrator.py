"""calibrator="auto": for each value, the rule whose rounding errs least behind the next layer.

A layer turns the error e of its input into W·e. With errors that are independent but for
their mean, output channel c errs by (Σ w_c)²·E[e]² + (Σ w_c²)·Var[e] on average. Both moments of
e follow from the counts, so that the choice needs no data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fxq.quantization.calibrators import CANDIDATES, Range, get_calibrator
from fxq.quantization.formats import QSpec
from fxq.quantization.tensor_statistics import TensorStatistics


def choose_by_output(statistics: TensorStatistics, spec: QSpec,
                     weights: Sequence[tuple[Tensor, int]]) -> tuple[str, Range]:
    """(rule, range) of the smallest output error; `weights` are the readers', with output axes."""
    sums, squares = _sensitivity(weights)
    ranges = {name: get_calibrator(name)(statistics, spec) for name in CANDIDATES}
    errors = {name: _output_error(statistics, spec, range_, sums, squares)
              for name, range_ in ranges.items()}
    best = min(CANDIDATES, key=lambda name: errors[name])  # the first of equals
    return best, ranges[best]


def _sensitivity(weights: Sequence[tuple[Tensor, int]]) -> tuple[float, float]:
    """Σ (Σ w)² and Σ Σ w² over all output channels; 1 each for a value that no layer reads."""
    if not weights:
        return 1.0, 1.0
    rows = [w.double().transpose(0, axis).flatten(1) for w, axis in weights]
    return (sum(float(r.sum(1).square().sum()) for r in rows),
            sum(float(r.square().sum()) for r in rows))


def _output_error(statistics: TensorStatistics, spec: QSpec, range_: Range, sums: float,
                  squares: float) -> float:
    values, counts = statistics.histogram()
    if not counts.sum():
        return 0.0
    qparams = spec.qparams(*range_)
    low, high = qparams.bounds()
    inside = (values >= low) & (values <= high)
    missed = np.where(inside, 0.0, np.clip(values, low, high) - values)
    rounding = np.where(inside, np.minimum(values**2, qparams.scale**2 / 12), 0.0)
    total = counts.sum()
    mean = float(missed @ counts / total)
    variance = float((missed**2 + rounding) @ counts / total) - mean**2
    return sums * mean**2 + squares * variance

