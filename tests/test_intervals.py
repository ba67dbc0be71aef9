"""Intervals of shares: against tables, and by drawing."""

from __future__ import annotations

import numpy as np
import pytest

from fxq.profiler.intervals import paired_interval, share_interval


def test_wilsons_interval_is_that_of_scipy() -> None:
    """A well-kept library gives the same bounds."""
    from scipy.stats import binomtest

    for hits, count in ((0, 10), (7, 10), (10, 10), (962, 1000)):
        expected = binomtest(hits, count).proportion_ci(method="wilson")
        assert share_interval(hits, count) == pytest.approx(tuple(expected), abs=1e-6)


def test_the_paired_interval_holds_the_difference_in_95_of_100_draws() -> None:
    """Of 2000 draws of 500 images, between 93 % and 97 %: six deviations of that share."""
    random, held = np.random.default_rng(0), 0
    for _ in range(2000):
        kinds = random.choice(4, 500, p=(0.75, 0.19, 0.035, 0.025))  # both, none, lost, gained
        low, high = paired_interval((kinds % 2 == 0).tolist(), np.isin(kinds, (0, 3)).tolist())
        held += low <= 0.025 - 0.035 <= high
    assert 0.93 <= held / 2000 <= 0.97


def test_sides_that_agree_on_all_images_leave_doubt() -> None:
    """No width at all would claim more than a hundred images can show."""
    low, high = paired_interval([True] * 100, [True] * 100)
    assert low == -high and 0 < high < 0.04


def test_intervals_of_nothing_are_refused() -> None:
    """No images have no share."""
    for call in (lambda: share_interval(0, 0), lambda: paired_interval([], []),
                 lambda: paired_interval([True], [True, False])):
        with pytest.raises(ValueError, match="image"):
            call()
