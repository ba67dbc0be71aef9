"""fold-clamp: bounds become the range of the integers, exactly."""

import pytest
import torch
from torch import nn

from fxq.ir.printer import format_graph
from tests.helpers import finished, ops, rewrites, run, without_scales
from tests.nets import Fn, ramp

X = ramp(2, 4, 6, 6, low=-8, high=8)


def identity_conv():
    conv = nn.Conv2d(4, 4, 1)
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


def test_golden_relu6_leaves_no_operator(golden):
    """The range [0, 6] saturates by itself; the integers are the same."""
    net = nn.Sequential(identity_conv(), nn.ReLU6())
    before, _ = finished("correct-bias", net, X)
    after, record = finished("fold-clamp", net, X)
    golden.check(without_scales(format_graph(after)) + rewrites(record))
    assert "conv2d_clamp" in ops(before)
    assert [o for o in ops(after) if "clamp" in o] == []
    assert torch.equal(run(before, X), run(after, X))


def test_golden_wider_range_keeps_the_bound(golden):
    """When another value shares the format, the clamp acts on integers (T33)."""
    net = Fn(lambda s, x: torch.cat([s.act(s.a(x)), s.b(x)], 1), a=identity_conv(),
             b=identity_conv(), act=nn.ReLU6())
    before, _ = finished("correct-bias", net, X)
    after, record = finished("fold-clamp", net, X)
    golden.check(without_scales(format_graph(after)))
    assert "clamp to [" in record.rewrites[0].what
    assert "clamp_on_integers" in ops(after)
    assert torch.equal(run(before, X), run(after, X))


@pytest.mark.parametrize("low, high", [(0.0, 6.0), (-1.0, 1.0), (0.0, 0.5), (-3.0, None)])
def test_standalone_clamp_is_exact(low, high):
    """A clamp behind a pooled value acts on integers, bit for bit."""
    net = Fn(lambda s, x: torch.clamp(s.pool(s.conv(x)), low, high), conv=identity_conv(),
             pool=nn.MaxPool2d(2))
    before, _ = finished("correct-bias", net, X)
    after, _ = finished("fold-clamp", net, X)
    assert torch.equal(run(before, X), run(after, X))


def test_fused_relu_stays_for_its_kernel():
    """FBGEMM absorbs the ReLU, so that it stays fused."""
    module, _ = finished("fold-clamp", nn.Sequential(identity_conv(), nn.ReLU()), X)
    assert "conv2d_relu" in format_graph(module)
