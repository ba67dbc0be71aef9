"""correct-bias: channel means come back to float's."""

from dataclasses import replace

import torch
from torch import nn

from fxq.ir.printer import format_graph
from tests.helpers import MINMAX, finished, rewrites, run, without_scales
from tests.nets import ramp

X = ramp(1, 3, 8, 8, low=0.0, high=1.0).expand(4, 3, 8, 8)
CORRECTING = replace(MINMAX, correct_bias=True)


def mean_error(name, scheme):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 1))
    net[0].weight.data[:, 0] += 20  # one large weight makes the rounding of the others coarse
    module, record = finished(name, net, X, scheme=scheme)
    exact, given = net(X), run(module, X)
    return (exact - given).mean((0, 2, 3)).abs().max().item(), record


def test_channel_means_move_back():
    """The largest mean error of a channel shrinks several times."""
    before, _ = mean_error("convert", CORRECTING)
    after, record = mean_error("correct-bias", CORRECTING)
    assert len(record.rewrites) == 1
    assert after < before / 3


def test_golden_linear_without_bias(golden):
    """A layer without bias gets one."""
    x = ramp(4, 8)
    module, record = finished("correct-bias", nn.Sequential(nn.Linear(8, 3, bias=False)), x,
                              scheme=CORRECTING)
    golden.check(without_scales(format_graph(module)) + rewrites(record))


def test_transposed_convolutions_stay():
    """Each of their outputs meets other taps, so that one mean does not fit all."""
    _, record = finished("correct-bias", nn.Sequential(nn.ConvTranspose2d(3, 4, 3)), X,
                         scheme=CORRECTING)
    assert record.rewrites == ()


def test_scheme_can_switch_it_off():
    """Without correction the bias stays as it is."""
    before, _ = mean_error("convert", MINMAX)
    after, record = mean_error("correct-bias", MINMAX)
    assert record.rewrites == ()
    assert after == before
