"""Near chance: an exact binomial bound."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxq.profiler.chance import LEVEL, guessing_probability


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any), st.data())
def test_it_is_the_binomial_tail(counts, data):
    """The sum of the exact terms, for every number of hits."""
    count, share = sum(counts), max(counts) / sum(counts)
    hits = data.draw(st.integers(0, count))
    tail = sum(comb(count, k) * share**k * (1 - share)**(count - k) for k in range(hits, count + 1))
    assert guessing_probability(hits, counts) == pytest.approx(tail, abs=1e-9)


def test_a_constant_answer_is_guessing():
    """90 % of unbalanced labels are right when the answer never changes."""
    assert guessing_probability(90, [90, 10]) > LEVEL
    assert guessing_probability(90, [50, 50]) < LEVEL


def test_few_images_prove_nothing():
    """Four of four is one chance in sixteen; thirty-two of thirty-two is none."""
    assert guessing_probability(4, [2, 2]) == pytest.approx(1 / 16)
    assert guessing_probability(32, [16, 16]) < LEVEL
