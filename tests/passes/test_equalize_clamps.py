"""equalize-clamps: channels below a clamp's bound fill the range that depthwise layers read."""

import torch
from torch import nn

from fxq.analysis.channels import DEVIATIONS
from fxq.compiler.pipeline import FUSE
from fxq.compiler.verify import close
from fxq.ir.printer import format_graph
from fxq.passes.equalize_clamps import EqualizeClamps
from tests.helpers import prepared, run
from tests.nets import ramp
from tests.passes.test_equalize import depthwise, uneven

X = ramp(2, 3, 6, 6)


def equalized(model, *inputs):
    module, manager = prepared(model, *inputs, passes=(*FUSE, EqualizeClamps()))
    return module, manager.records[-1]


def test_golden_relu6(golden):
    """The clamp keeps its bound; the weights on both sides are new."""
    module, _ = equalized(depthwise(nn.ReLU6()), X)
    golden.check(format_graph(module))


def test_values_within_the_reach_stay():
    """Channels whose values keep within their reach give the same outputs."""
    net = depthwise(nn.ReLU6())
    assert net[:2](X).abs().amax((0, 2, 3)).le(DEVIATIONS * net[1].weight).all()
    module, record = equalized(net, X)
    assert record.rewrites and close(run(module, X), net(X))


def test_values_beyond_the_reach_saturate():
    """A channel 100 times farther than its norm says is cut off where the norm's reach ends."""
    net = depthwise(nn.ReLU6())
    module, _ = equalized(net, X)
    assert not close(run(module, 100 * X), net(100 * X))


def test_channel_at_the_bound_keeps_its_clamp():
    """A channel that reaches 6 is not scaled: its clamp cuts where it did."""
    net = depthwise(nn.ReLU6())
    with torch.no_grad():
        net[1].weight.fill_(1.0)  # 8 deviations lie beyond 6
    module, _ = equalized(net, 100 * X)
    assert close(run(module, 100 * X), net(100 * X))


def test_dense_reader_stays():
    """Weights of a dense layer share a scale over the channels that it reads."""
    net = uneven(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU6(),
                               nn.Conv2d(4, 2, 1)))
    assert not equalized(net, X)[1].rewrites
