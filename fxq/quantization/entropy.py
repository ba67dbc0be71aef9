"""How much information a range loses: the Kullback-Leibler divergence of its quantized values.

After Migacz 2017, "8-bit Inference with TensorRT" (GTC), for ranges with two free ends: P is
the distribution of the values, those outside of the range added to its outermost bins; Q is
what is left when all bins of one integer share their mass evenly. The counts lie on a
logarithmic grid; they are spread evenly over a fine linear one first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
BINS = 2048


def entropy(values: Values, counts: Values, ranges: Values, steps: int) -> Values:
    """KL(P || Q) in nats for each candidate range (low, high); `values` rise."""
    edges = np.linspace(min(values[0], 0.0), max(values[-1], 0.0), BINS + 1)
    mass = _on_linear_grid(values, counts, edges)
    return np.array([_divergence(mass, edges, low, high, steps) for low, high in ranges])


def _on_linear_grid(values: Values, counts: Values, edges: Values) -> Values:
    """The same counts on even bins; each old bin reaches half way to its neighbours."""
    if len(values) == 1:
        single: Values = np.histogram(values, edges, weights=counts)[0]
        return single
    middles = (values[1:] + values[:-1]) / 2
    borders = np.concatenate([[values[0]], middles, [values[-1]]])
    cumulated = np.concatenate([[0.0], np.cumsum(counts)])
    inside = np.interp(edges, borders, cumulated)
    inside[0], inside[-1] = 0.0, cumulated[-1]
    mass: Values = np.diff(inside)
    zero = int(np.searchsorted(edges, 0.0))  # zeros are exact in any format: no information is lost
    around = slice(max(zero - 1, 0), min(zero + 1, BINS))
    mass[around] = np.median(mass[max(zero - 4, 0): zero + 4])
    return mass


def _divergence(mass: Values, edges: Values, low: float, high: float, steps: int) -> float:
    first, last = np.searchsorted(edges, [low, high])
    first, last = max(int(first) - (edges[first] > low), 0), max(int(last), int(first) + 1)
    kept = mass[first:last]
    reference = kept.copy()
    reference[0] += mass[:first].sum()
    reference[-1] += mass[last:].sum()
    levels = np.minimum(np.arange(len(kept)) * (steps + 1) // len(kept), steps)
    filled = kept > 0
    total = np.bincount(levels, weights=kept)
    share = np.bincount(levels, weights=filled.astype(np.float64))
    quantized = np.where(filled, (total / np.maximum(share, 1))[levels], 0.0)
    p, q = reference / reference.sum(), quantized / max(quantized.sum(), 1e-300)
    known = p > 0
    # mass that Q cannot see at all (an outlier put on an empty bin) counts as nearly lost
    return float(np.sum(p[known] * np.log(p[known] / np.maximum(q[known], 1e-12))))
