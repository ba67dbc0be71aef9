"""pair-safe-weights: nothing saturates on FBGEMM's depthwise kernels, and little is lost."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fxq
from fxq.ir.printer import format_graph
from fxq.quantization.weights import quantize_weight, round_weight, safe_scales, worst_pair
from fxq.targets.fbgemm import FBGEMM
from fxq.targets.x86_shapes import IMAGES, channels_flat, channels_in_tap, taps
from tests.helpers import finished, ops, rewrites, run, without_scales
from tests.nets import ramp

X = ramp(1, 8, 8, 8, low=0.0, high=1.0)
S8 = FBGEMM.weight


def depthwise(kernel=3, fill=1.0, **options):
    net = nn.Sequential(nn.Conv2d(8, 8, kernel, groups=8, bias=False,
                                  **{"padding": kernel // 2, **options}))
    nn.init.constant_(net[0].weight, fill)
    return net


def weight_of(module):
    return next(b for n, b in module.named_buffers() if "weight_int8" in n)


def test_golden_unsafe_channels_are_rescaled(golden):
    """Equal weights of 127 become 64; the function stays."""
    net = depthwise()
    module, record = finished("pair-safe-weights", net, X)
    golden.check(without_scales(format_graph(module)) + rewrites(record))
    assert len(record.rewrites) == 1
    assert worst_pair(weight_of(module), taps).max() <= 128
    assert fxq.sqnr(net(X), run(module, X)) > 40


def test_safe_channels_stay():
    """A channel whose pairs fit is not touched."""
    net = depthwise()
    net[0].weight.data.flatten(1)[3:, 1::2] *= -1  # neighbours of opposite sign cancel
    before, _ = finished("convert", net, X)
    after, record = finished("pair-safe-weights", net, X)
    assert "3 of 8 channels" in record.rewrites[0].what
    assert torch.equal(weight_of(before)[3:], weight_of(after)[3:])


@pytest.mark.parametrize("options", [{"padding": 0}, {"dilation": 2, "padding": 2}])
def test_other_kernels_stay(options):
    """Depthwise shapes that FBGEMM computes exactly keep all 8 bits."""
    _, record = finished("pair-safe-weights", depthwise(**options), X)
    assert record.rewrites == ()


def test_second_run_changes_nothing():
    """Safe weights are left alone."""
    from fxq.passes.pair_safe_weights import PairSafeWeights
    from tests.helpers import prepared

    net = depthwise()
    module, _ = finished("pair-safe-weights", net, X)
    context = prepared(net, X)[1].context
    assert PairSafeWeights().run(module, context).rewrites == ()
    assert ops(module).count("dequantize_weight") == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-4, 4, width=32), min_size=18, max_size=18),
       st.sampled_from([taps, channels_flat, channels_in_tap, None]))
def test_law_every_result_is_safe(values, pairs):
    """For any weights, known pairing or not, no pair sums beyond the limit."""
    weight = torch.tensor(values).reshape(2, 3, 3, 1)
    scales = quantize_weight(weight, 0, S8).scales
    grown = safe_scales(weight, scales, IMAGES.limit, pairs, S8)
    safe = round_weight(weight, grown, 0, S8)
    assert worst_pair(safe, pairs).max() <= 128
    assert (grown >= scales).all()
    assert (grown <= scales * 2.01).all()  # two weights of 127 need no more than half the steps
