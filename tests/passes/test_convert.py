"""convert: formats are explicit, and every node left in float says why."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.ir.printer import format_graph
from tests.helpers import MINMAX, finished, run, without_scales
from tests.nets import Classifier, Fn, lively, ramp

X = ramp(2, 3, 16, 16)


def test_golden_classifier(golden):
    """Every integer value stands between a quantize and a dequantize."""
    net = lively(Classifier())
    module, _ = finished("convert", net, X)
    golden.check(without_scales(format_graph(module)))
    assert fxq.sqnr(net(X), run(module, X)) > 25


@pytest.mark.parametrize("function, code, reason", [
    (lambda s, x: F.softmax(s.conv(x), dim=1), "no-kernel", "more than 8 bits"),
    (lambda s, x: s.conv(x) + torch.ones(4, 1, 1), "limit", "not known when compiling"),
    (lambda s, x: torch.cumsum(s.conv(x), 1), "opaque", "does not know"),
    (lambda s, x: F.silu(s.conv(x)), "float-output", "read in float"),
    (lambda s, x: F.conv2d(x, s.conv.weight * 2), "limit", "computed at run time"),
])
def test_what_stays_in_float_says_why(function, code, reason):
    """The report has a stable code and one sentence."""
    net = Fn(function, conv=nn.Conv2d(3, 4, 3))
    _, record = finished("convert", net, X)
    assert code in [r.code for r in record.refusals]
    assert any(reason in r.reason for r in record.refusals)


def test_float_island_keeps_its_float_input():
    """A float operator behind a float operator reads it directly."""
    module, record = finished("convert", Fn(lambda s, x: F.softmax(F.softmax(x, 1), 1)), X)
    assert "quantize" not in format_graph(module)
    assert [r.code for r in record.refusals] == ["no-kernel", "no-kernel"]


def test_uncalibrated_value_is_an_error():
    """A value without statistics has no silent default (T36)."""
    net = lively(Classifier())
    prepared = fxq.prepare(net, example_inputs=(X,))
    with pytest.raises(fxq.CalibrationError, match="was never reached"):
        fxq.convert(prepared)


def test_override_keeps_a_layer_in_float():
    """A module path may be excepted from the scheme."""
    scheme = replace(MINMAX, overrides={"head": "fp32"})
    _, record = finished("convert", lively(Classifier()), X, scheme=scheme)
    assert [(r.path, r.code) for r in record.refusals if r.code == "override"] == [
        ("head", "override")]


def test_weights_of_transposed_convolutions_are_per_tensor():
    """FBGEMM refuses per-channel weights there; that is decided before calibration (T67)."""
    net = nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2))
    module, _ = finished("convert", net, X)
    scales = [b for n, b in module.named_buffers() if n.endswith("weight_scale")]
    assert [s.numel() for s in scales] == [1]


def test_zero_channel_stays_exactly_zero():
    """An all-zero weight channel has a tiny scale, not a division by zero (T40)."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False))
    net[0].weight.data[1] = 0
    module, _ = finished("convert", net, X)
    assert run(module, X)[:, 1].abs().max() == 0
