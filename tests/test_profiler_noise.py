"""A profile states no noise as fact: spreads, doubts first, and advice that was measured twice."""

import csv
import io
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import fxq
from fxq.profiler.advice import Proposal, exact_pattern, net_effect, proposals, saved
from fxq.profiler.clock import Timing
from fxq.profiler.profile import _spreads
from fxq.profiler.rows import NodeProfile, raised
from fxq.profiler.trust import clock_text, ratio_text
from fxq.system.timing import Spread
from tests.nets import Classifier, lively, ramp

X = ramp(2, 3, 16, 16)
CAST = Spread(2.5, 3.0, 3.5)


def node(us=(10, 10, 10), lost=None, **changes):
    """A row with these spreads; `lost` is its time less float's."""
    spreads = {"us": Spread(*us), "share": Spread(0.1, 0.1, 0.1)}
    if lost is not None:
        spreads |= {"lost_us": Spread(*lost), "float_us": Spread(1, us[1] - lost[1], 9)}
    float_us = None if lost is None else us[1] - lost[1]
    values = {"name": "n", "path": "n", "source": "", "kernel": "conv2d", "dtype": "uint8",
              "shape": (1, 4, 2, 2), "weight_bytes": 0, "activation_bytes": 1, "macs": 0,
              "us": us[1], "share": 0.1, "float_us": float_us, "lost_us": lost and lost[1],
              "gmacs": 0.0, "roof": 0.0, "intensity": 0.0, "sqnr": None, "arithmetic": "",
              "spreads": spreads}
    return NodeProfile(**values | changes)


def chain(*middles):
    """Integer nodes one after the other, between neighbours on integers."""
    rows = [node(name="a", path="a"), *middles, node(name="z", path="z")]
    return [replace(r, inputs=(i - 1,) if i else ()) for i, r in enumerate(rows)]


def advised(*middles, noise=0.0):
    return proposals(chain(*middles), noise, lambda kind, shape: CAST)


@pytest.fixture(scope="module")
def measured():
    compiled = fxq.compile(lively(Classifier()), example_inputs=(X,), calibration_data=[X],
                           runtime="python")
    return compiled.profile(X, rounds=6, budget=0.2)


def timed(profile, factors=(1.0,) * 12, clocks=0.02, floats=2.0):
    """The profile as these rounds would have made it: 100 µs, `floats` times as much in float."""
    plain = 1e-4 * np.array(factors)
    each = np.tile(plain[:, None] * (1 + clocks) / len(profile.nodes), len(profile.nodes))
    timing = Timing([None] * len(profile.nodes), each, plain)
    spreads = _spreads(list(profile.nodes), timing, Timing([], each, plain * floats), plain)
    return replace(profile, spreads=spreads, coverage=timing.coverage, rounds=len(plain))


class TestDoubts:
    """What is out of bounds is said first, in every form."""

    def test_quiet_rounds_leave_none(self, measured):
        """The same time in every round."""
        assert timed(measured).doubts == ()
        assert timed(measured).reliable

    def test_noisy_rounds_are_said_first(self, measured):
        """In text, JSON, CSV, Markdown, the trace and HTML."""
        noisy = timed(measured, factors=[1, 3] * 6)
        assert str(noisy).startswith("NOT RELIABLE")
        data = json.loads(noisy.to_json())
        assert list(data)[:2] == ["reliable", "doubts"]
        assert data["reliable"] is False
        assert "spread over" in data["doubts"][0]
        assert {r["reliable"] for r in csv.DictReader(io.StringIO(noisy.to_csv()))} == {"False"}
        assert "NOT RELIABLE" in noisy.to_markdown().splitlines()[2]
        assert json.loads(noisy.to_chrome_trace())["otherData"]["reliable"] is False
        page = noisy.to_html()
        assert page.index("Not reliable") < page.index('class="cards"')

    def test_coverage_and_clocks_have_bounds(self, measured):
        """Nodes that do not add up, clocks that cost too much, or that cannot have cost less."""
        assert "add up to 60%" in " ".join(timed(measured, clocks=-0.4).doubts)
        assert "faster than runs without" in " ".join(timed(measured, clocks=-0.1).doubts)
        assert "may cost as much as" in " ".join(timed(measured, clocks=0.3).doubts)
        assert "only 4 rounds" in timed(measured, factors=[1.0] * 4).doubts[0]

    def test_no_advice_on_times_that_are_not_reliable(self, measured):
        """Neither what is slow nor what to do."""
        found = replace(timed(measured, factors=[1, 3] * 6), nodes=(node(lost=(3, 5, 7)),))
        assert found.advice().startswith("No advice on time")
        assert "slower than in float" not in found.advice()


class TestStatements:
    """A sentence says no more than all rounds do."""

    def test_faster_only_beyond_the_spread(self):
        """An interval around 1 is no statement."""
        assert ratio_text(Spread(1.8, 2.0, 2.2)).startswith("2.00x faster")
        assert ratio_text(Spread(0.3, 0.4, 0.9)).startswith("2.50x slower")
        assert "beyond the noise" in ratio_text(Spread(0.9, 1.2, 1.5))

    def test_clocks_never_cost_less_than_nothing(self):
        """A bound, or no figure at all."""
        assert clock_text(Spread(0.01, 0.02, 0.03)) == "2.0% [1.0%, 3.0%]"
        assert clock_text(Spread(-0.27, -0.02, 0.04)) == "at most 4.0%"
        assert "not measurable" in clock_text(Spread(-0.3, -0.27, -0.1))

    def test_nothing_is_above_the_roof(self):
        """A node that is faster than the roof's own convolution raises it."""
        graph = torch.fx.Graph()
        call = graph.call_function(torch.relu, (graph.placeholder("x"),))
        call.meta["fxq.macs"] = 4_000_000
        timing = Timing([call], np.array([[2e-5], [4e-5]]), np.array([2e-5, 4e-5]))
        assert raised({"integer": 100.0}, timing) == {"integer": pytest.approx(200.0)}
        assert raised({"integer": 300.0}, timing) == {"integer": 300.0}

    def test_a_node_is_slower_when_nine_rounds_of_ten_say_so(self):
        """The interval of the difference excludes zero; a median alone does not count."""
        assert node(lost=(2, 5, 8)).slower
        assert not node(lost=(-1, 5, 8)).slower
        assert not node().slower

    def test_a_difference_inside_the_noise_is_none(self, measured):
        """A diff of two profiles says so instead of a figure."""
        before = timed(measured)
        assert "within the noise" in str(fxq.diff(before, before))
        after = replace(timed(measured, factors=[3.0] * 12), total_us=3 * measured.total_us)
        assert "(0.33x)" in str(fxq.diff(before, after))

    def test_every_figure_has_its_spread(self, measured):
        """Beside each median, in the table and as columns."""
        row = next(n for n in measured.nodes if n.macs)
        assert set(row.spreads) == {"us", "share", "float_us", "lost_us", "gmacs", "roof"}
        columns = next(csv.DictReader(io.StringIO(measured.to_csv())))
        assert {f"{name}_low" for name in row.spreads} <= set(columns)
        assert all(s.low <= s.middle <= s.high for s in row.spreads.values())
        assert all(n.spreads["roof"].high <= 1 for n in measured.nodes if "roof" in n.spreads)


class TestAdvice:
    """Exact nodes, the casts that float would need, and a second measurement."""

    def test_a_node_that_loses_more_than_its_casts_is_named(self):
        """20 µs against two casts of 3 µs."""
        found, = advised(node(lost=(18, 20, 22)))
        assert found.overrides == {"n": "fp32"}
        assert found.predicted_us == Spread(18 - 7, 20 - 6, 22 - 5)
        assert "NOT CONFIRMED, it was not measured" in str(found)

    def test_a_node_that_its_casts_cost_more_is_not(self):
        """4 µs lost, 6 µs of casts."""
        assert advised(node(lost=(3, 4, 5))) == ()

    def test_noise_gives_no_advice(self):
        """Neither of the node's own rounds, nor of the run that it is a part of."""
        assert advised(node(lost=(-5, 20, 60))) == ()
        assert advised(node(lost=(18, 20, 22)), noise=15.0) == ()

    def test_a_block_is_never_named(self):
        """The sum of a block has the block's path, which would cover its layers."""
        block = node(name="b:add", path="b", kernel="add", lost=(18, 20, 22))
        inside = node(name="b.conv", path="b.conv")
        assert advised(block, inside) == ()
        assert exact_pattern(node(path="layer[1]"), [node(path="layer[1]")]) == "layer[[]1]"
        assert exact_pattern(node(path="add"), [node(path="add")]) is None

    def test_casts_that_fall_away_are_gained(self):
        """A layer between its own casts needs none in float."""
        rows = [node(cast=True), node(lost=(1, 2, 3), inputs=(0,)),
                node(dtype="float32", cast=True, inputs=(1,))]
        assert net_effect(1, rows, lambda kind, shape: CAST) == Spread(21, 22, 23)

    def test_a_second_measurement_confirms_or_refutes(self):
        """A clock that gives 10 and 8 seconds; then one that gives noise."""
        found = Proposal("n", {"n": "fp32"}, Spread(1, 2, 3))
        steady = replace(found, remeasured_us=ticking([10.0, 8.0]))
        assert steady.confirmed
        assert str(steady).endswith(": confirmed")
        noisy = replace(found, remeasured_us=ticking([10.0, 8.0, 8.0, 10.0]))
        assert noisy.confirmed is False
        assert "NOT CONFIRMED, so leave it" in str(noisy)

    def test_the_override_that_is_advised_changes_that_node_alone(self):
        """What is compiled again has one node less on integers."""
        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)).eval()
        given = {"example_inputs": (X,), "calibration_data": [X], "runtime": "python"}
        rows = fxq.compile(net, **given).profile(X, rounds=5, budget=0.1).nodes
        middle = next(r for r in rows if r.path == "1")
        again = fxq.compile(net, overrides={exact_pattern(middle, rows): "fp32"}, **given)
        assert [r.path for r in again.report.left_in_float] == ["1"]


def test_advice_is_compiled_and_measured_when_that_is_asked_for(monkeypatch):
    """Each proposal goes to `recompile`, and comes back with its second measurement."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)).eval()
    given = {"example_inputs": (X,), "calibration_data": [X], "runtime": "python"}
    monkeypatch.setattr("fxq.profiler.profile.doubts", lambda profile: ())
    monkeypatch.setattr("fxq.profiler.profile.proposals", lambda *_: (
        Proposal("1", {"1": "fp32"}, Spread(1, 2, 3)),))
    asked = []

    def recompile(overrides):
        asked.append(overrides)
        return fxq.compile(net, overrides=overrides, **given)

    compiled = fxq.compile(net, **given)
    found, = compiled.profile(X, rounds=5, budget=0.1, recompile=recompile).proposals
    assert asked == [{"1": "fp32"}]
    assert found.remeasured_us.low <= found.remeasured_us.middle <= found.remeasured_us.high
    unmeasured, = compiled.profile(X, rounds=5, budget=0.1).proposals
    assert unmeasured.confirmed is None


def ticking(durations):
    """What `saved` makes of a clock by which the calls take these seconds, over and over."""
    now, passing = 0.0, itertools.cycle(durations)

    def run():
        nonlocal now
        now += next(passing)

    return saved(run, run, 24, 1e9, clock=lambda: now)
