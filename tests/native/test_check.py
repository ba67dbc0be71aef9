"""Programs are checked before anything is prepared: whatever a file says, memory stays whole."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxq.errors import FxqError
from fxq.kernels.native.library import why_not
from tests.native.programs import LANE_BYTES, WIDE_BYTES, program, rows, scores

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
INT = st.one_of(st.integers(-3, 300), st.integers(-2**31, 2**31 - 1),
                st.sampled_from([2**31 - 1, -2**31, 2**30, 4096, 65536]))
LONG = st.one_of(INT, st.integers(-2**63, 2**63 - 1), st.sampled_from([2**63 - 1, 2**40, -2**63]))
WIDTHS = {"offset", "image", "row", "pixel", "channel"}


def broken(part, index, **fields):
    """The network with some fields of one view (0) or step (1) replaced."""
    made = rows(2)
    made[part][index] |= fields
    return program(2, views=made[0], steps=made[1])


def test_the_network_itself_is_accepted():
    """What follows refuses its broken twins."""
    assert scores(broken(0, 0), 2).abs().sum() > 0


@pytest.mark.parametrize("index, fields, why", [
    (1, {"space": -1}, "no memory"),
    (1, {"space": 100}, "no memory"),
    (1, {"element": 2}, "neither bytes nor floats"),
    (1, {"zero_point": 256}, "zero point"),
    (1, {"offset": -1}, "negative"),
    (1, {"offset": 2}, "begins before"),
    (2, {"offset": LANE_BYTES - 64}, "behind the lane"),
    (4, {"offset": WIDE_BYTES - 8}, "behind the wide memory"),
    (4, {"image": WIDE_BYTES + 128}, "behind the wide memory"),
    (1, {"h": 0}, "empty"),
    (1, {"w": 2**31 - 1}, "too large"),
    (1, {"row": 2**62}, "too large"),
    (2, {"row": 12}, "overlap"),
    (1, {"row": 12}, "between its rows"),
    (1, {"top": -1}, "border"),
    (1, {"left": 0}, "between its rows"),
    (1, {"bottom": 2**31 - 1}, "border"),
    (1, {"channel": 2}, "overlap"),
    (0, {"offset": 2}, "cuts numbers apart"),
    (0, {"top": 1}, "border"),
])
def test_views_stay_in_their_memory(index, fields, why):
    """One field of one view is wrong."""
    with pytest.raises(FxqError, match=f"(?s)view {index}.*{why}"):
        broken(0, index, **fields)


@pytest.mark.parametrize("index, fields, why", [
    (1, {"op": 16}, "unknown operator"),
    (1, {"op": -1}, "unknown operator"),
    (1, {"flags": 256}, "unknown flags"),
    (1, {"flags": 128}, "only bytes that enter"),
    (0, {"flags": 128, "table": -1}, "only bytes that enter"),
    (0, {"flags": 128, "table": 0}, "fewer tables"),
    (1, {"flags": 16}, "only averages"),
    (1, {"flags": 32}, "takes no range"),
    (0, {"flags": 32, "other": 0}, "side by side"),
    (0, {"flags": 32}, "second input"),
    (0, {"op": 13}, "floats or sums"),
    (4, {"op": 14, "flags": 1}, "without the range"),
    (1, {"flags": 64}, "bytes for sums"),
    (2, {"flags": 64}, "sums leave"),
    (1, {"flags": 1}, "uses the memory of one"),
    (1, {"flags": 2}, "bytes for floats"),
    (1, {"flags": 4}, "second input"),
    (2, {"flags": 8}, "averages only"),
    (1, {"in": 6}, "no view"),
    (1, {"out": -1}, "no view"),
    (2, {"other": -1}, "second input"),
    (1, {"other": 2}, "second input"),
    (1, {"table": 1}, "unknown table"),
    (1, {"layer": 2}, "layer is unknown"),
    (2, {"layer": 0}, "layer is unknown"),
    (1, {"kh": 5}, "not the layer's"),
    (1, {"groups": 3}, "not the layer's"),
    (1, {"ph": 2}, "border is smaller"),
    (1, {"ph": -1}, "padding"),
    (1, {"sh": 0}, "stride"),
    (1, {"dw": 2}, "border is smaller"),
    (3, {"sh": 2**20, "kh": 2**21}, "not possible"),
    (3, {"dh": 2}, "dilated"),
    (1, {"zero_in": 6}, "not the layer's"),
    (2, {"zero_other": 256}, "zero point"),
    (2, {"low": 9, "high": 8}, "no range"),
    (2, {"high": 256}, "no range"),
    (2, {"m0": math.nan}, "not finite"),
    (2, {"m1": math.inf}, "not finite"),
    (1, {"out": 1}, "channels are not"),
    (2, {"out": 4}, "sizes differ"),
    (0, {"in": 1, "out": 2}, "sizes differ"),
    (1, {"in": 2}, "channels are not"),
    (3, {"in": 0}, "floats"),
    (3, {"op": 15}, "second input"),
    (3, {"op": 15, "other": 3, "table": 0}, "table"),
    (3, {"op": 15, "other": 3}, "matrices' sizes"),
    (2, {"op": 15, "other": 1}, "matrices' sizes"),
    (2, {"op": 15, "other": 0}, "floats"),
])
def test_steps_fit_their_views(index, fields, why):
    """One step says what its views, its layer or arithmetic do not allow."""
    with pytest.raises(FxqError, match=f"(?s)step {index}.*{why}"):
        broken(1, index, **fields)


@pytest.mark.parametrize("drop, why", [(0, "step 0.*not written"), (1, "step 1.*not written"),
                                       (3, "step 3.*not written"), (4, None)])
def test_memory_is_read_behind_its_writers(drop, why):
    """Without one of its steps, the next one would read what an earlier call left."""
    steps = rows(2)[1]
    del steps[drop]
    if why is None:
        assert program(2, steps=steps).kernels
        return
    with pytest.raises(FxqError, match=f"(?s){why}"):
        program(2, steps=steps)


def test_parts_of_pixels_are_one_value_when_all_are_there():
    """A concatenation's parts are written in any order; its twin lacks one."""
    views, steps = rows(2)
    half = views[3] | {"c": 8}
    last = len(views)
    views += [half, half | {"offset": half["offset"] + 8}, views[2] | {"c": 8},
              views[2] | {"c": 8, "offset": views[2]["offset"] + 8}]
    parts = [steps[2] | {"in": last + 2 + i, "other": last + 2 + i, "out": last + i} for i in (1, 0)]
    joined = [*steps[:2], *parts, *steps[3:]]
    assert torch.equal(scores(program(2, views=views, steps=joined), 2), scores(program(2), 2))
    del joined[2]
    with pytest.raises(FxqError, match="(?s)step 3.*not written"):
        program(2, views=views, steps=joined)


def test_a_step_of_all_images_ends_the_memory_of_one():
    """Behind it, another image may have used that memory."""
    steps = rows(2)[1]
    with pytest.raises(FxqError, match="(?s)step 5.*not written"):
        program(2, steps=[*steps, steps[3]])


def test_outputs_are_read_behind_their_writers():
    """An output is memory of the caller that holds anything before."""
    views, steps = rows(2)
    views.append(views[5] | {"space": views[0]["space"]})
    views.append(views[4] | {"offset": 64})
    step = steps[0] | {"in": 5, "out": len(views) - 1}
    views[-1] |= {"c": 10, "pixel": 10, "row": 10}
    assert program(2, views=views, steps=[*steps, step]).kernels
    with pytest.raises(FxqError, match="(?s)step 0.*before it is written"):
        program(2, views=views, steps=[step, *steps])


@pytest.mark.parametrize("memory", [(-1, 128), (12288, -1), (2**62, 128), (12288, 2**62)])
def test_memory_has_a_possible_size(memory):
    """Sizes whose products overflow are refused too."""
    with pytest.raises(FxqError, match="sizes are not possible"):
        program(2, memory=memory)


def test_tensors_have_their_sizes():
    """A smaller tensor, or fewer, than the program was made for."""
    made = program(2)
    made._sizes[1] -= 1
    with pytest.raises(FxqError, match="smaller"):
        scores(made, 2)
    made._count = 1
    with pytest.raises(FxqError, match="another number"):
        scores(made, 2)


@st.composite
def mutations(draw):
    """(part, index, field, value)"""
    made = rows(2)
    part = draw(st.integers(0, 1))
    index = draw(st.integers(0, len(made[part]) - 1))
    field = draw(st.sampled_from(sorted(made[part][index])))
    values = st.floats(width=32) if field in ("m0", "m1") else LONG if field in WIDTHS else INT
    return part, index, field, draw(values)


@settings(max_examples=300, deadline=None)
@given(st.lists(mutations(), min_size=1, max_size=3))
def test_no_numbers_break_it(changes):
    """A program with any fields is refused, or runs to its end."""
    made = rows(2)
    for part, index, field, value in changes:
        made[part][index][field] = value
    try:
        scores(program(2, views=made[0], steps=made[1]), 2, threads=2)
    except FxqError as error:
        assert "refuses" in str(error) or "native program" in str(error)
