"""Budgets: an exact choice over a table, held to what is measured; nothing is met that is not."""

import itertools
from dataclasses import replace
from math import inf

import pytest
import torch
from torch import nn

import fxq
from fxq.budget import assign, candidates
from fxq.budget.judge import Judge, judge_of, labels_of
from fxq.budget.limits import Figures, Limits
from fxq.budget.pareto import front
from fxq.budget.search import TRIES, Outcome, point_of, search
from fxq.budget.solve import Bounds, solve
from fxq.budget.table import FLOAT, Table
from fxq.compiler.lock import read_lock
from fxq.ir.facts import info
from fxq.ir.ops import op_of
from fxq.profiler.first_order import Rounding, form_of, fused_graph_of, weight_form
from fxq.profiler.sensitivity import Mixtures, overrides_of
from fxq.quantization.schemes import get_scheme
from tests.nets import Classifier, Fn, lively

X = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SCHEMES = ("int8_static", "fp32", "int8_weight_only")


def classifier():
    """The same weights in any order of the tests: averages are placed by their statistics."""
    torch.manual_seed(0)
    return lively(Classifier())


def made_table(net, schemes=SCHEMES, seed=0, target="fbgemm"):
    """A table of a real graph with figures that were drawn; integers are fast, small and noisy."""
    prepared = fxq.prepare(net, target=target, example_inputs=(X[:2],), verify=False)
    mixed = Mixtures(fused_graph_of(prepared), prepared, fxq.calibrate(prepared, [X]))
    draw = torch.Generator().manual_seed(seed)

    def any_of(low, high):
        return float(low + (high - low) * torch.rand(1, generator=draw))

    values = [info(n).value for n in mixed.module.graph.nodes if op_of(n) or n.op == "placeholder"]
    us = {(v, f): any_of(1, 9) if f == "int8_static" else any_of(8, 30)
          for v in values for f in schemes}
    size = {(v, f): int(any_of(1e4, 1e5)) * (4 if f == FLOAT else 1) for v in values for f in schemes}
    forms = {weight_form(get_scheme(s)) for s in schemes}
    noise = {Rounding("weight", v, s): any_of(0, 1) for v in values for s in sorted(forms)}
    noise |= {Rounding("value", v, "0 to 255"): any_of(0, 1) for v in values}
    logits = torch.randn(64, 5, generator=draw) * 8
    return Table(mixed, schemes, {s: mixed.placement(dict.fromkeys(mixed.paths, s))
                                  for s in schemes}, us, size,
                 {v: any_of(1, 6) for v in values}, {v: any_of(1, 6) for v in values}, noise,
                 float_us=150.0, judge=Judge(logits))


@pytest.fixture(scope="module")
def table():
    return made_table(classifier())


def everything(table):
    """All assignments there are."""
    return [dict(zip(table.mixed.paths, chosen, strict=True)) for chosen in
            itertools.product(table.schemes, repeat=len(table.mixed.paths))]


COSTS = {"us": Table.microseconds, "bytes": Table.size, "noise": Table.variance}
BOUNDS = [{}, {"us": 90.0}, {"bytes": 9e5}, {"noise": 4.0}, {"us": 110.0, "noise": 4.0},
          {"us": 130.0, "bytes": 1.2e6, "noise": 6.0}]


@pytest.mark.parametrize("objective", COSTS)
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_the_solver_is_exact(objective, bounds, seed):
    """No assignment of all there are is within the bounds and better; there is none iff it says so.

    The solver's own tie-break moves an objective by 1e-4 of its range at most."""
    table = made_table(classifier(), seed=seed)
    costs = [{n: cost(table, a) for n, cost in COSTS.items()} for a in everything(table)]
    within = [c[objective] for c in costs if all(c[n] <= v for n, v in bounds.items())]
    found = solve(table, Bounds(**bounds), objective)
    assert (found is None) == (not within)
    if found is not None:
        spread = max(c[objective] for c in costs) - min(c[objective] for c in costs)
        assert COSTS[objective](table, found) <= min(within) + 1e-3 * spread
        assert all(COSTS[n](table, found) <= v * (1 + 1e-6) for n, v in bounds.items())


def test_a_choice_layer_by_layer_would_not_do():
    """The failing twin: borders make neighbours depend on each other, so that greedy is beaten."""
    table = made_table(classifier())
    table = replace(table, enter=dict.fromkeys(table.enter, 20.0))
    greedy = {}
    for path in table.mixed.paths:
        alone = dict.fromkeys(table.mixed.paths, FLOAT)
        greedy[path] = min(table.schemes, key=lambda s: table.microseconds(alone | {path: s}))
    assert table.microseconds(solve(table, Bounds(), "us")) < table.microseconds(greedy)


def exactly(table):
    """A measurement that finds what was predicted."""
    return lambda assignment: table.figures(assignment)


def test_what_is_chosen_is_the_fastest_within_the_drop(table):
    """With a drop allowed, speed is the aim; without one, exactness."""
    chosen, missed = search(table, Limits(max_drop=100.0), exactly(table))
    assert not missed and chosen.measured.ms == pytest.approx(
        min(table.microseconds(a) for a in everything(table)) / 1e3, rel=1e-2)
    exact, _ = search(table, Limits(max_mb=10.0), exactly(table))
    assert exact.measured.drop == 0 and set(exact.overrides.values()) == {FLOAT}


def test_a_measurement_that_misses_is_tried_again(table):
    """Twice as slow as predicted: the bound is drawn in until what is measured is within."""
    slower = lambda a: replace(table.figures(a), speedup=table.figures(a).speedup / 1.3)  # noqa: E731
    chosen, missed = search(table, Limits(min_speedup=1.5), slower)
    assert chosen.measured.speedup >= 1.5 > missed[0].measured.speedup
    assert missed[0].predicted.speedup >= 1.5


def test_nothing_is_met_that_was_not_measured(table):
    """Whatever is predicted, a drop that is measured too large is an error after TRIES."""
    asked = []
    measure = lambda a: asked.append(a) or replace(table.figures(a), drop=50.0)  # noqa: E731
    with pytest.raises(fxq.BudgetError, match="measured 50.00 points"):
        search(table, Limits(max_drop=20.0), measure)
    assert 1 <= len(asked) <= TRIES


def test_a_front_has_no_point_that_another_beats(table):
    """Faster is less exact, all the way."""
    points = front(table, None)
    assert len(points) > 2
    assert [p.predicted.ms for p in points] == sorted(p.predicted.ms for p in points)
    drops = [p.predicted.drop for p in points]
    assert drops == sorted(drops, reverse=True)


def too_small():
    table = made_table(classifier())
    return search(table, Limits(max_mb=0.1), exactly(table))


def too_much():
    table = made_table(classifier())
    return search(table, Limits(max_drop=0.5, min_speedup=2.5, max_mb=0.8), exactly(table))


def slower_than_predicted():
    table = made_table(classifier())
    return search(table, Limits(max_drop=30.0, min_speedup=1.5), lambda a: replace(
        table.figures(a), speedup=0.9))


@pytest.mark.parametrize("case", [too_small, too_much, slower_than_predicted],
                         ids=lambda c: c.__name__)
def test_golden_message(case, golden):
    """What binds and by how much, and a budget that can be met; short."""
    with pytest.raises(fxq.BudgetError) as found:
        case()
    assert len(str(found.value).splitlines()) < 25
    golden.check(str(found.value) + "\n")


@pytest.mark.parametrize("limits", [{"max_drop": -1.0}, {"min_speedup": 0.0}, {"max_mb": inf}])
def test_limits_are_positive_numbers(limits):
    """A typo is an error before any work."""
    with pytest.raises(fxq.ConfigError, match="positive"):
        Limits(**limits)


class TestJudge:
    """What a drop is."""

    LOGITS = torch.tensor([[4.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 3.0]])

    def test_labels_count_what_is_right(self):
        """One image falls, of four; without labels the same image is a disagreement."""
        worse = self.LOGITS.clone()
        worse[2] = worse[2].flip(0)
        assert Judge(self.LOGITS, torch.tensor([0, 1, 0, 1])).drop(worse) == 25
        assert Judge(self.LOGITS, torch.tensor([0, 1, 1, 1])).drop(worse) == -25
        assert Judge(self.LOGITS).drop(worse) == 25

    def test_the_variance_for_a_drop_gives_that_drop(self):
        """The two directions of one curve."""
        judge = Judge(self.LOGITS)
        assert judge.predicted(judge.variance_for(10.0)) == pytest.approx(10.0, abs=1e-6)
        assert judge.predicted(judge.variance_for(0.0)) == pytest.approx(0.0, abs=1e-9)

    def test_noise_flips_as_many_as_predicted(self):
        """Noise of that variance on the margins, drawn: within three deviations of a share."""
        draw = torch.Generator().manual_seed(0)
        logits = self.LOGITS.repeat(2000, 1)
        noise = torch.randn(8000, 2, generator=draw)  # a difference has twice the variance of each
        found, judge = Judge(logits).drop(logits + noise), Judge(logits)
        expected = judge.predicted(2.0)
        assert abs(found - expected) < 3 * 100 * (expected / 100 * (1 - expected / 100) / 8000)**0.5

    def test_labels_that_guessing_reaches_do_not_count(self):
        """A shifted list of classes is found out, and said."""
        judge = judge_of(self.LOGITS, torch.tensor([1, 0, 1, 0]))
        assert judge.labels is None and "guessing" in judge.how
        assert judge_of(self.LOGITS, torch.tensor([0, 9, 0, 1])).labels is None
        assert judge_of(torch.zeros(2, 3, 4, 4), None) is None

    def test_labels_are_the_second_of_pairs(self):
        """Batches of one input and a class each; anything else has none."""
        pair = (X, torch.arange(16))
        assert torch.equal(labels_of([pair], None, 1, [16]), pair[1])
        assert labels_of([X], None, 1, [16]) is None and labels_of([pair], None, 2, [16]) is None


@pytest.fixture
def quick(monkeypatch):
    """Few rounds: what a clock says is no matter of these tests."""
    from fxq.budget import measure

    monkeypatch.setattr(measure, "_ROUNDS", 3)
    monkeypatch.setattr(measure, "_LEAST", 2)
    monkeypatch.setattr(candidates, "_ROUNDS", 2)
    monkeypatch.setattr(candidates, "_BUDGET", 0.01)


def compiled(net=None, target="reference", **options):
    return fxq.compile(net or classifier(), target=target, example_inputs=(X[:1],),
                       calibration_data=[X], runtime="python", **options)


def test_bytes_are_exact(quick):
    """What the table adds up is what the model has, for every point that was built."""
    model = compiled(max_mb=0.006, scheme="int8_static", target="fbgemm")
    assert model.size_bytes <= 6000 and model.pareto
    assert all(p.predicted.bytes == p.measured.bytes for p in model.pareto)
    chosen, = (p for p in model.pareto if p.chosen)
    assert chosen.measured.bytes == model.size_bytes
    assert "max_mb=0.006: measured 0.00" in model.report.budget


def test_the_result_is_reproduced_by_its_overrides(quick):
    """The same integers from the overrides in the report, without a budget."""
    net = classifier()
    model = compiled(net, max_mb=0.006, target="fbgemm")
    chosen, = (p for p in model.pareto if p.chosen)
    assert chosen.overrides and "overrides" in dict(model.report.configuration)
    again = compiled(net, overrides=chosen.overrides, target="fbgemm")
    assert torch.equal(model(X[:1]), again(X[:1])) and model.size_bytes == again.size_bytes


def test_one_batch_may_be_a_tensor(quick):
    """As in calibration: it is not taken apart into images."""
    model = fxq.compile(classifier(), target="fbgemm", example_inputs=(X[:1],),
                        calibration_data=X, runtime="python", max_mb=1.0)
    assert "1 batches" in model.report.calibration and model.pareto


def test_a_lock_replays_what_was_chosen(quick, tmp_path, monkeypatch):
    """A second build measures nothing and has the same bytes."""
    net = classifier()
    compiled(net, max_mb=0.006, target="fbgemm", lock=tmp_path / "lock").save(tmp_path / "a.fxq")
    assert read_lock(tmp_path / "lock")["overrides"]
    monkeypatch.setattr("fxq.api.compile.assign", lambda *a, **k: pytest.fail("it was measured"))
    compiled(net, max_mb=0.006, target="fbgemm", lock=tmp_path / "lock").save(tmp_path / "b.fxq")
    assert (tmp_path / "a.fxq").read_bytes() == (tmp_path / "b.fxq").read_bytes()


@pytest.mark.parametrize("options, error, text", [
    ({"calibration_data": None}, fxq.CalibrationError, "needs calibration data"),
    ({"scheme": "fp32"}, fxq.ConfigError, "cannot start from"),
    ({"scheme": "fp16"}, fxq.ConfigError, "half precision"),
    ({"overrides": {"head": "fp32"}}, fxq.ConfigError, "chooses the overrides itself")])
def test_what_a_budget_cannot_do(options, error, text):
    """Each says why."""
    with pytest.raises(error, match=text):
        fxq.compile(classifier(), target="reference", max_mb=1.0, **{
            "example_inputs": (X[:1],), "calibration_data": [X], **options})


def test_a_drop_needs_classes(quick):
    """A feature map has no top-1."""
    net = Fn(lambda s, x: s.conv(x), conv=nn.Conv2d(3, 4, 3)).eval()
    with pytest.raises(fxq.ConfigError, match="gives classes"):
        compiled(net, max_drop=1.0)


def test_wide_weights_are_candidates_where_they_run():
    """4 and 16 bits on `reference`, 8 alone where kernels are."""
    whole = fxq.prepare(classifier(), example_inputs=(X[:1],)).context.scheme
    get = fxq.targets.get_target
    assert {"W4A8", "int16_static", "int8_static", FLOAT} <= set(
        candidates.schemes_for(get("reference"), whole))
    assert candidates.schemes_for(get("fbgemm"), whole) == (
        "int8_static", "fp32", "int8_weight_only")


def test_layers_without_a_module_name_each_other():
    """An operator's name covers all of its kind: then every layer is named, outer ones first."""
    found = overrides_of({"a.b": "int8_static", "conv2d": "fp32"}, "int8_static")
    assert list(found.items()) == [("conv2d", "fp32"), ("a.b", "int8_static")]
    assert overrides_of({"a.b": "int8_static", "c": "fp32"}, "int8_static") == {"c": "fp32"}


def test_a_report_says_measured_and_predicted(table):
    """Each limit on its own line, and what a drop is."""
    point = replace(point_of(table, everything(table)[0], exactly(table)), chosen=True)
    text = str(Outcome(Limits(max_drop=90.0, max_mb=1.0), point, (point,), "agreement"))
    assert text.count("measured") == text.count("predicted") == 2 and "(drop: agreement)" in text
    assert Limits(min_speedup=2.0).met(Figures(1.0, 2.0, 0, None))
    assert not Limits(min_speedup=2.0).met(Figures(1.0, 1.99, 0, None))
    assert form_of(fxq.quantization.schemes.U8) == "0 to 255" and assign.assign
