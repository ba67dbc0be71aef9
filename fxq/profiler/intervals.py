"""How sure a share of right answers is, and a difference of two such shares on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
Interval = tuple[float, float]


def share_interval(hits: int, count: int) -> Interval:
    """The 95 % interval of a share, as E. B. Wilson gave it (1927): right near 0 and 1 too.

    Raises ValueError for no images.
    """
    if count < 1:
        raise ValueError("a share needs at least one image")
    share, weight = hits / count, Z**2 / count
    middle = (share + weight / 2) / (1 + weight)
    reach = Z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def paired_interval(before: Sequence[bool], after: Sequence[bool]) -> Interval:
    """The 95 % interval of how much the share of right answers rose, image by image.

    Most images are answered alike, so that it is far narrower than what two shares of other images
    would allow. Images that only one side answers right are weighed as A. Agresti and Y. Min did
    (Statistics in Medicine 24, 2005): half an image is added to each of the four cells, because
    plain counts give an interval of no width where both sides agree on all. Raises ValueError for
    no images, or for sides of different lengths.
    """
    if not before or len(before) != len(after):
        raise ValueError("both sides answer the same images, at least one")
    gained = sum(b and not a for a, b in zip(before, after, strict=True)) + 0.5
    lost = sum(a and not b for a, b in zip(before, after, strict=True)) + 0.5
    count = len(before) + 2
    middle = (gained - lost) / count
    reach = Z * math.sqrt(gained + lost - (gained - lost) ** 2 / count) / count
    return middle - reach, middle + reach
