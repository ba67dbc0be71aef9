"""The way of the data: each step is a function of its arguments, and can be taken again."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import fxq
from fxq.ir.printer import format_graph
from fxq.kernels import calls
from tests.nets import Classifier, Fn, lively, ramp

X = ramp(2, 3, 16, 16)
WIDE = ramp(2, 3, 16, 16, low=-9, high=9)
NET = lively(Classifier()).eval()


def prepared():
    return fxq.prepare(NET, example_inputs=(X,))


def statistics(batch):
    return fxq.calibrate(prepared(), [batch])


def test_convert_twice_with_other_statistics():
    """Each conversion of one Prepared gives what a fresh one gives."""
    shared = prepared()
    for batch in (X, WIDE, X):
        seen = statistics(batch)
        again = fxq.convert(shared, statistics=seen, runtime="python")
        fresh = fxq.convert(prepared(), statistics=seen, runtime="python")
        assert again.graph_text("REFERENCE") == fresh.graph_text("REFERENCE")
        assert torch.equal(again(X), fresh(X))


def test_other_statistics_give_other_formats():
    """The failing twin: the test above would see a convert that keeps its first formats."""
    texts = [fxq.convert(prepared(), statistics=statistics(batch),
                         runtime="python").graph_text("REFERENCE") for batch in (X, WIDE)]
    assert texts[0] != texts[1]


def test_convert_leaves_what_it_converts():
    """Graph, observers and manager of a Prepared stay as they are."""
    shared = prepared()
    fxq.calibrate(shared, [X])
    before = format_graph(shared.graph_module), shared.statistics(), len(shared.manager.records)
    fxq.convert(shared, runtime="python")
    assert format_graph(shared.graph_module) == before[0]
    assert shared.statistics().ranges() == before[1].ranges()
    assert len(shared.manager.records) == before[2]


def test_sensitivity_traces_once(monkeypatch):
    """One trace serves the conversion of every layer."""
    from fxq.compiler import prepare

    count, capture = [], prepare.capture
    monkeypatch.setattr(prepare, "capture", lambda *a: count.append(1) or capture(*a))
    found = fxq.sensitivity(NET, [X])
    assert len(found) > 1 and len(count) == 1


@pytest.fixture
def wrong_add(monkeypatch):
    """This machine's kernel for sums is two steps off."""
    right = calls.CALLS["add"]

    def add(a, b, scale, zero_point):
        return right.function(a, b, scale, max(zero_point - 2, 0))

    monkeypatch.setitem(calls.CALLS, "add", replace(right, implementation=add))


@pytest.fixture
def file(tmp_path):
    net = lively(Fn(lambda s, x: s.a(x) + s.b(x), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 4, 1)))
    fxq.compile(net.eval(), example_inputs=(X,), calibration_data=[X]).save(tmp_path / "m.fxq")
    return tmp_path / "m.fxq"


def test_load_checks_the_kernels_of_this_machine(file, wrong_add):
    """A kernel that is more than a step off is found when a file is loaded, not when it is used."""
    with pytest.raises(fxq.ArtifactError, match="steps"):
        fxq.load(file, runtime="python")


def test_load_without_the_check_believes_the_kernels(file, wrong_add):
    """The twin: verify=False loads sooner, and sees nothing."""
    assert fxq.load(file, runtime="python", verify=False)(X).shape == (2, 4, 16, 16)
