"""runtime="auto": what is expected stays, unless clear evidence speaks against it."""

import itertools
import json

import pytest
import torch
from torch import nn

import fxq
from fxq.runtime.decision import MARGIN, Expectation, decide, expectation
from fxq.system.timing import turns
from tests.nets import ramp

SCRIPT = Expectation("torchscript", "many calls")


def graph_of(calls):
    graph = torch.fx.Graph()
    value = graph.placeholder("x")
    for _ in range(calls):
        value = graph.call_function(torch.relu, (value,))
    graph.output(value)
    return graph


def chosen(python, script, expected=SCRIPT):
    return decide({"python": python, "torchscript": script}, expected).chosen


def test_many_calls_speak_for_torchscript():
    """Its calls are cheaper; a graph of two does not earn the entry."""
    assert expectation(graph_of(60)).name == "torchscript"
    assert expectation(graph_of(2)).name == "python"
    assert "60 calls" in expectation(graph_of(60)).why


def test_the_faster_one_is_kept_when_all_rounds_say_so():
    """Beyond the margin, in both halves of the rounds."""
    assert chosen([1.0] * 8, [1.5] * 8) == "python"
    assert chosen([1.5] * 8, [1.0] * 8, Expectation("python", "")) == "torchscript"


def test_a_difference_inside_the_margin_changes_nothing():
    """A tie is no evidence."""
    assert chosen([1.0] * 8, [1 / (1 - MARGIN / 2)] * 8) == "torchscript"


def test_one_lucky_round_changes_nothing():
    """One minimum of Python's is lower; the other half of the rounds does not agree."""
    assert chosen([1.0, *[2.0] * 7], [1.5] * 8) == "torchscript"


@pytest.mark.parametrize("factor", [3.0, 10.0])
def test_disturbed_rounds_do_not_hide_a_minimum(factor):
    """Noise adds time to most rounds, its medians say the opposite of what is true."""
    script = [1.0 if i % 4 in (0, 1) else factor for i in range(16)]
    python = [1.3] * 9 + [factor] * 7
    assert chosen(python, script, Expectation("python", "")) == "torchscript"
    assert chosen(python, script) == "torchscript"


def test_turns_interleave_and_stop():
    """A clock that ticks once a reading: every function runs in every round."""
    ticks, order = itertools.count(), []
    found = turns([lambda: order.append("a"), lambda: order.append("b")], 50, budget=10.0,
                  least=2, clock=lambda: float(next(ticks)))
    assert order == ["a", "b"] * len(found[0])
    assert found == [[1.0] * len(found[0])] * 2
    assert 2 <= len(found[0]) < 50


def test_the_report_has_the_evidence():
    """Rounds, minima, margin and rule; nothing where nothing was chosen."""
    net, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval(), ramp(1, 3, 4, 4)
    options = {"example_inputs": (x,), "calibration_data": [x]}
    report = fxq.compile(net, **options).report
    choice = json.loads(json.dumps(report.to_dict()))["runtime_choice"]
    assert choice["chosen"] == report.runtime
    assert dict(choice["minima_us"]).keys() == {"python", "torchscript"}
    assert choice["rounds"] >= 6
    assert "even rounds" in choice["rule"]
    assert "expected torchscript" in str(report)
    assert fxq.compile(net, runtime="python", **options).report.runtime_choice is None


def test_a_file_holds_no_choice(tmp_path):
    """The same model gives the same bytes; whoever loads it measures anew."""
    net, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval(), ramp(1, 3, 4, 4)
    for runtime in ("auto", "python"):
        fxq.compile(net, example_inputs=(x,), calibration_data=[x], runtime=runtime).save(
            tmp_path / f"{runtime}.fxq")
    assert (tmp_path / "auto.fxq").read_bytes() == (tmp_path / "python.fxq").read_bytes()
    assert fxq.load(tmp_path / "auto.fxq").report.runtime_choice.rounds >= 6
