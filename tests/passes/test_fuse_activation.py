"""fuse-activation: the activation joins its producer, and bounds stay exact."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.ir.printer import format_graph
from tests.helpers import codes, compiled, ops, run, upto
from tests.nets import Fn, Residual, lively, ramp

X = ramp(2, 8, 5, 5, low=-3, high=9)


def test_golden_residual(golden):
    """Convolutions and the add each take their ReLU."""
    net = lively(Residual())
    module, _ = upto("fuse-activation", net, X)
    golden.check(format_graph(module))
    assert torch.allclose(run(module, X), net(X), atol=1e-4)


def test_relu_read_twice_stays_apart():
    """A value with two readers may not vanish."""
    net = Fn(lambda s, x: (lambda y: torch.relu(y) + y)(s.conv(x)), conv=nn.Conv2d(8, 8, 1))
    module, record = upto("fuse-activation", net, X)
    assert ops(module) == ["conv2d", "relu", "add"]
    assert codes(record) == ["activation-not-fused"]


@pytest.mark.parametrize("act", [
    nn.ReLU6(), nn.Hardtanh(-0.5, 2.0), Fn(lambda s, x: x.clamp(min=-1)),
    Fn(lambda s, x: torch.clamp(F.relu6(x), 1.0, 5.0)), Fn(lambda s, x: F.relu(x).clamp(max=2))])
def test_bounds_survive_in_float_and_int8(act):
    """Values beyond both bounds come out at the bounds (T33, T34)."""
    net = nn.Sequential(nn.Conv2d(8, 8, 1), act)
    nn.init.dirac_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    module, _ = upto("fuse-activation", net, X)
    assert torch.equal(run(module, X), net(X))
    out = compiled(net, X)(X)
    step = (X.max() - X.min()) / 255
    assert (out - net(X)).abs().max() <= 2 * step  # input and output each round by half a step


def test_max_and_clip_behind_a_conv():
    """conv, maximum, clip: the known fault of another optimizer (T34)."""
    net = Fn(lambda s, x: torch.clip(torch.max(s.conv(x), s.floor), -2.0, 2.0),
             conv=nn.Conv2d(8, 8, 1))
    net.register_buffer("floor", torch.tensor(-0.5))
    assert fxq.sqnr(net(X), compiled(net, X)(X)) > 30


def test_zero_channels_are_a_clear_error():
    """A convolution with no output channels fails in torch itself; the error says where (T35)."""
    with pytest.warns(UserWarning, match="zero-element"):
        net = nn.Sequential(nn.Conv2d(8, 0, 1))
    with pytest.raises(fxq.TraceError, match="fails at 0"):
        compiled(net, X)


def test_constant_input_folds_or_runs():
    """A convolution over a constant compiles (T35)."""
    net = Fn(lambda s, x: s.conv(s.image) + s.conv(x), conv=nn.Conv2d(8, 8, 1))
    net.register_buffer("image", ramp(2, 8, 5, 5))
    assert fxq.sqnr(net(X), compiled(net, X)(X)) > 30
