"""fold-pad: zeros in front of a convolution become its own padding."""

import pytest
import torch
from torch import nn

from fxq.ir.printer import format_graph
from tests.helpers import codes, ops, run, upto
from tests.nets import ramp

X = ramp(1, 3, 6, 6)


def test_golden_zero_pad_disappears(golden):
    """Pad and padding add up, bit for bit."""
    net = nn.Sequential(nn.ZeroPad2d((2, 2, 1, 1)), nn.Conv2d(3, 4, 3, padding=1))
    module, _ = upto("fold-pad", net, X)
    golden.check(format_graph(module))
    assert torch.equal(run(module, X), net(X))


@pytest.mark.parametrize("pad", [nn.ZeroPad2d((0, 1, 0, 1)), nn.ReflectionPad2d(1),
                                 nn.ConstantPad2d(1, 0.5), nn.ZeroPad2d(-1)])
def test_other_pads_stay(pad):
    """One-sided, reflecting, non-zero and cropping pads are not the convolution's own."""
    net = nn.Sequential(pad, nn.Conv2d(3, 4, 3))
    module, record = upto("fold-pad", net, X)
    assert codes(record) == ["pad-not-exact"]
    assert ops(module) == ["pad", "conv2d"]
    assert torch.equal(run(module, X), net(X))
