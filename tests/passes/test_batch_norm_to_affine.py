"""batch-norm-to-affine: a norm on its own is one multiply and one add."""

import torch
from torch import nn

from fxq.ir.printer import format_graph
from tests.helpers import codes, ops, run, upto
from tests.nets import lively, ramp

X = ramp(2, 4, 5, 5)


def test_golden_norm_in_front_of_a_conv(golden):
    """DenseNet's order: norm, relu, conv (T28)."""
    net = lively(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    module, _ = upto("batch-norm-to-affine", net, X)
    golden.check(format_graph(module))
    assert torch.allclose(run(module, X), net(X), atol=1e-5)  # one rounding of values near one


def test_norm_without_statistics_stays():
    """It needs the statistics of each batch."""
    net = nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)).eval()
    module, record = upto("batch-norm-to-affine", net, X)
    assert ops(module) == ["batch_norm"]
    assert codes(record) == ["batch-norm-not-constant"]
