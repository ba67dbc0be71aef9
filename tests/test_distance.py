"""What is said when a compiled model is far from float, and of outputs that dB do not describe."""

import math

import pytest
import torch
from torch import nn

import fxq
from fxq.profiler.distance import distance_of
from tests.helpers import compiled
from tests.nets import Classifier, Fn, lively, ramp

X = ramp(2, 3, 8, 8)


def far():
    """A net of which 2-bit integers keep little."""
    return lively(Classifier())


def test_a_poor_result_warns_with_the_worst_nodes():
    """Below 15 dB: how far, where most is lost, and what to try; the report says it too."""
    with pytest.warns(fxq.FxqWarning, match="dB close to the float model's") as caught:
        model = compiled(far(), X, scheme="W2A2", target="reference")
    text = str(caught[0].message)
    assert "most is lost at" in text and 'overrides={"' in text and "fxq.sensitivity" in text
    assert caught[0].filename.endswith("helpers.py")  # the line that called fxq
    assert model.report.sqnr < 15 and text in model.report.note and text in str(model.report)


def test_a_good_result_does_not():
    """The twin; warnings are errors here."""
    assert compiled(far(), X).report.note == ""


def test_the_advice_helps():
    """The override that the warning names brings back decibels."""
    with pytest.warns(fxq.FxqWarning) as caught:
        before = compiled(far(), X, scheme="W2A2", target="reference").report.sqnr
    path = str(caught[0].message).split('overrides={"')[1].split('"')[0]
    with pytest.warns(fxq.FxqWarning):
        after = compiled(far(), X, scheme="W2A2", target="reference", overrides={path: "fp32"})
    assert after.report.sqnr > before


@pytest.mark.parametrize(("outputs", "other", "sqnr", "note"), [
    ([[1, 2, 3]], [[1, 2, 3]], None, "integers, and equal"),
    ([[1, 2, 3]], [[1, 2, 4]], None, "1 of 3 integers"),
    ([[]], [[]], None, "empty"),
    ([[0.0, 0.0]], [[0.0, 0.1]], None, "all zero, and those of the compiled model are not"),
    ([[0.0, 0.0]], [[0.0, 0.0]], math.inf, "all zero"),
    ([[3.0, 3.0]], [[3.0, 3.003]], 63.01, "constant"),
    ([[1.0, 2.0]], [[1.0, 2.0]], math.inf, ""),
    ([[1.0, 2.0], [7]], [[1.0, 2.0], [8]], math.inf, "1 of 1 integers")])
def test_outputs_that_decibels_do_not_describe(outputs, other, sqnr, note):
    """No figure where there is none, and one sentence instead."""
    found = distance_of(*([torch.tensor(v) for v in values] for values in (outputs, other)))
    assert found.sqnr == (sqnr if sqnr in (None, math.inf) else pytest.approx(sqnr, abs=0.01))
    assert note in found.note and bool(found.note) == bool(note)
    assert not found.poor


def test_a_model_of_classes_says_how_many_differ():
    """argmax gives integers: no "equal" that was never measured."""
    net = Fn(lambda s, x: s.a(x).argmax(1), a=nn.Conv2d(3, 4, 1)).eval()
    report = compiled(net, X).report
    assert report.sqnr is None and "integers" in report.note
    assert "not measured" in str(report)


def test_the_report_says_which_shapes_were_seen():
    """Ranges at other sizes may differ; the report says for which they hold."""
    net = Fn(lambda s, x: s.a(x), a=nn.Conv2d(3, 4, 1)).eval()
    report = compiled(net, X, calibration=[X, ramp(1, 3, 9, 9), X]).report
    assert report.calibration == "3 batches of [*,3,8,8], [*,3,9,9]"


@pytest.mark.parametrize("scheme", ["fp16", "bf16", "int8_dynamic"])
def test_verification_decides_nothing(scheme):
    """Half precision reads the ranges of the example inputs, whether passes are verified or not."""
    net = Fn(lambda s, x: s.b((s.a(x) * 1e5).mean((2, 3))), a=nn.Conv2d(3, 4, 1),
             b=nn.Linear(4, 4)).eval()
    left = [[(r.path, r.code) for r in fxq.compile(
        net, target="reference", scheme=scheme, example_inputs=(X,), runtime="python",
        verify=verify).report.left_in_float] for verify in (True, False)]
    assert left[0] == left[1]
    assert (scheme == "fp16") == ("range" in {code for _, code in left[0]})
