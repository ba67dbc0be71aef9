"""Is an accuracy more than guessing? An exact binomial bound."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVEL = 0.001  # one guesser in a thousand passes for a model that knows something


def guessing_probability(hits: int, label_counts: Sequence[int]) -> float:
    """How probable it is that answers which know nothing of the images score `hits` or more.

    `label_counts` says how many images each class has, n together. Answers that do not depend on
    the image are right with a probability of at most the largest class's share p (an answer c is
    right in label_counts[c] / n of the cases), so their hits are at most binomial: the bound is
    P[B(n, p) >= hits], summed exactly in logarithms. 1.0 where there are no images.
    """
    count, largest = sum(label_counts), max(label_counts, default=0)
    if hits <= 0 or largest == count:
        return 1.0
    yes, no = math.log(largest / count), math.log1p(-largest / count)
    terms = [math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
             + k * yes + (count - k) * no for k in range(hits, count + 1)]
    return min(1.0, math.fsum(map(math.exp, terms)))
