"""equalize: channels of a value reach equally far, and no output moves."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxq.analysis.channels import DEVIATIONS, spreads
from fxq.compiler.pipeline import FUSE
from fxq.compiler.verify import close
from fxq.ir.ops import op_name
from fxq.ir.printer import format_graph
from fxq.ir.rewriter import constant_of
from fxq.passes.equalize import LARGEST, Equalize
from tests.helpers import prepared, run
from tests.nets import Fn, lively, ramp

X = ramp(2, 3, 6, 6)


def uneven(model):
    """The same weights always, and norms whose channels differ by powers of four."""
    generator = torch.Generator().manual_seed(0)
    for layer in (m for m in lively(model).modules() if isinstance(m, nn.Conv2d)):
        nn.init.kaiming_uniform_(layer.weight, 5**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        with torch.no_grad():
            norm.weight.copy_(4.0 ** -torch.arange(norm.num_features).remainder(4))
            norm.bias.zero_()
    return model


def equalized(model, *inputs):
    module, manager = prepared(model, *inputs, passes=(*FUSE, Equalize()))
    return module, manager.records[-1]


def bottleneck():
    return uneven(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)))


class Stream(nn.Module):
    """x + f(x) over a linear stream of four channels, read by a convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.wide, self.back, self.last = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 2, 1)
        self.norm2 = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.norm(self.first(x))
        return self.last(x + self.norm2(self.back(F.relu(self.wide(x)))))


def reaches(module):
    """The reach of each channel of all linear values that norms tell of."""
    known = spreads(module)
    return [known[n].reach(n, DEVIATIONS) for n in known if op_name(n) in ("conv2d", "add")]


def test_golden_bottleneck(golden):
    """The producer's weights and bias, and the reader's weights, are new; nothing else is."""
    module, _ = equalized(bottleneck(), X)
    golden.check(format_graph(module))


@pytest.mark.parametrize("make", [bottleneck, lambda: uneven(Stream())])
def test_channels_reach_equally_far(make):
    """All channels of a value reach equally far, and outputs move by float rounding only."""
    net = make()
    module, record = equalized(net, X)
    assert record.rewrites
    assert close(run(module, X), net(X))
    for reach in reaches(module):
        assert torch.allclose(reach, reach.max().expand_as(reach), rtol=1e-6)


def test_second_run_changes_nothing():
    """The pass knows what it has scaled."""
    _, manager = prepared(bottleneck(), X, passes=(*FUSE, Equalize(), Equalize()))
    assert [len(r.rewrites) for r in manager.records[-2:]] == [1, 0]


def test_dead_channel_is_scaled_within_bounds():
    """A channel without spread gets the largest factor, not an infinite one."""
    net = bottleneck()
    with torch.no_grad():
        net[1].weight[3] = 0
    (plain, _), (module, _) = prepared(net, X, passes=FUSE), equalized(net, X)
    before, after = (constant_of(list(m.graph.nodes)[-2].args[1]) for m in (plain, module))
    assert torch.allclose(before[:, 3] / after[:, 3], torch.tensor(LARGEST))
    assert close(run(module, X), net(X))


def depthwise(activation):
    return uneven(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), activation,
                                nn.Conv2d(4, 4, 3, padding=1, groups=4)))


def test_relu_before_depthwise_is_equalized():
    """A positive factor passes through a ReLU, and zero padding stays zero."""
    net = depthwise(nn.ReLU())
    module, record = equalized(net, X)
    assert record.rewrites and close(run(module, X), net(X))


@pytest.mark.parametrize("net", [
    depthwise(nn.ReLU6()),  # another bound for each channel: `equalize-clamps`
    depthwise(nn.Sigmoid()),
    uneven(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))),
    lively(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))),  # no norm: no known reach
    uneven(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))),  # the output is the user's
    uneven(Fn(lambda s, x: (lambda y: s.last(y) + y.mean())(s.norm(s.conv(x))),
              conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4), last=nn.Conv2d(4, 4, 1))),
], ids=["clamp", "sigmoid", "relu-dense", "no-norm", "output", "other-reader"])
def test_other_values_stay(net):
    """What factors would change, or gain nothing for, keeps its bits."""
    module, record = equalized(net, X)
    plain, _ = prepared(net, X, passes=FUSE)
    assert not record.rewrites
    assert torch.equal(run(module, X), run(plain, X))
