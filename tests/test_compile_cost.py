"""What compiling costs is accounted for, and grows with the graph as it should."""

import sys
import time

import torch
from torch import fx, nn

import fxq
from fxq.compiler import build, manager, verify
from fxq.compiler.snapshot import snapshot_of
from fxq.ir.graph_module import attribute_at
from fxq.ir.rewriter import is_constant
from tests.helpers import prepared, upto
from tests.nets import Classifier, Residual, lively, ramp

X = ramp(2, 3, 16, 16)


class CallCounter:
    """A clock whose unit is one call of a function, so that no machine's speed shows."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        return self.calls

    def count(self, frame, event, argument):
        self.calls += event in ("call", "c_call")


def counted(monkeypatch, **options):
    """The report of a compilation that was timed in calls."""
    clock = CallCounter()
    monkeypatch.setattr(time, "perf_counter", clock)
    seen = fxq.calibrate(fxq.prepare(lively(Classifier()), example_inputs=(X,)), [X])
    before = sys.getprofile()
    sys.setprofile(clock.count)
    try:
        return fxq.compile(lively(Classifier()), example_inputs=(X,), statistics=seen,
                           runtime="python", **options).report
    finally:
        sys.setprofile(before)


def rows_of(report):
    return (sum(p.milliseconds + p.check_milliseconds for p in report.passes)
            + sum(milliseconds for _, milliseconds in report.steps)) / 1e3


def test_the_rows_add_up(monkeypatch):
    """Passes, their checks and the steps around them are 95 % of `compiled in`, and no more."""
    report = counted(monkeypatch)
    assert 0.95 * report.seconds <= rows_of(report) <= report.seconds
    assert {"trace", "choose runtime"} <= {name for name, _ in report.steps}


def test_a_missing_row_is_noticed(monkeypatch):
    """Without the step that traces, or without checks, the rows do not add up."""
    report = counted(monkeypatch)
    traced = dict(report.steps)["trace"] / 1e3
    checks = sum(p.check_milliseconds for p in report.passes) / 1e3
    assert rows_of(report) - min(traced, checks) < 0.95 * report.seconds


def test_graphs_are_run_only_when_they_changed(monkeypatch):
    """One run after each float pass that rewrites, none after one that does nothing."""
    runs = []
    monkeypatch.setattr(manager, "run", lambda *a: runs.append(1) or verify.run(*a))
    ready = fxq.prepare(lively(Residual()), example_inputs=(ramp(1, 8, 4, 4),))
    changed = [r.name for r in ready.manager.records if r.rewrites]
    assert len(runs) == len(changed) == 4
    assert all(r.sqnr == float("inf") for r in ready.manager.records if not r.rewrites)


def test_integer_graphs_are_run_only_when_they_changed(monkeypatch):
    """One run after convert and after each pass that rewrites, none before the next pass."""
    runs = []
    monkeypatch.setattr(manager, "run_with_integers",
                        lambda *a: runs.append(1) or verify.run_with_integers(*a))
    ready = fxq.prepare(lively(Residual()), example_inputs=(ramp(1, 8, 4, 4),))
    fxq.calibrate(ready, [ramp(1, 8, 4, 4)])
    records = build.quantize(ready).manager.records[len(ready.manager.records):]
    assert len(runs) == len([r for r in records if r.rewrites]) < len(records)


def weight_of(module):
    constants = (attribute_at(module, n.target) for n in module.graph.nodes if n.op == "get_attr")
    return next(c for c in constants if c.dim() == 4)


def test_what_counts_as_a_change():
    """A snapshot knows a graph that is as it was from one with a written or other constant."""
    module, _ = prepared(Classifier(), X)
    normal, _ = upto("normalize", Classifier(), X)
    assert snapshot_of(module).computes_the_same(module)
    assert not snapshot_of(module).computes_the_same(normal)
    snapshot = snapshot_of(normal)
    weight_of(normal).mul_(2)
    assert not snapshot.computes_the_same(normal)


def test_an_argument_is_a_change():
    """Another number in a call is a change."""
    normal, _ = upto("normalize", Classifier(), X)
    snapshot = snapshot_of(normal)
    node = next(n for n in normal.graph.nodes if "end_dim" in n.kwargs or "start_dim" in n.kwargs)
    node.kwargs = {**node.kwargs, "start_dim": 2}
    assert not snapshot.computes_the_same(normal)


def test_looking_for_constants_does_not_walk_a_whole_chain(monkeypatch):
    """Asking each value of a chain whether it is constant looks at a bounded number of nodes."""
    graph, looked = fx.Graph(), []
    value = graph.placeholder("x")
    for _ in range(400):
        value = graph.call_function(torch.add, (value, value))
    inputs = fx.Node.all_input_nodes.fget
    monkeypatch.setattr(fx.Node, "all_input_nodes",
                        property(lambda n: looked.append(n) or inputs(n)))
    assert not is_constant(value)
    assert len(looked) <= 2 * 101


def test_values_of_constants_are_constant():
    """A value that few operators compute from constants is one."""
    owner = nn.Module()
    owner.register_buffer("weight", torch.ones(1))
    graph = fx.Graph(owner)
    value = graph.get_attr("weight")
    for _ in range(50):
        value = graph.call_function(torch.neg, (value,))
    assert is_constant(value)
