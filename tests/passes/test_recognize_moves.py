"""recognize-moves: reshapes that shuffle channels, or flatten, become those operators."""

import pytest
import torch
from torch import nn

from fxq.ir.printer import format_graph
from tests.helpers import ops, run, upto
from tests.nets import ramp

X = ramp(2, 6, 4, 5)


class Shuffle(nn.Module):
    """A channel shuffle as networks write it out."""

    def __init__(self, groups=3, copy=True, dims=(1, 2)):
        super().__init__()
        self.groups, self.copy, self.dims = groups, copy, dims

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.view(n, self.groups, c // self.groups, h, w).transpose(*self.dims)
        return (x.contiguous() if self.copy else x).reshape(n, c, h, w)


class Flatten(nn.Module):
    """A flatten by sizes; `keep` is the dimension that is left alone."""

    def __init__(self, keep=0):
        super().__init__()
        self.keep = keep

    def forward(self, x):
        return x.reshape(x.size(self.keep), -1)


@pytest.mark.parametrize("copy", [True, False])
def test_golden_reshapes_are_a_shuffle(golden, copy):
    """With and without the copy in between, bit for bit."""
    net = Shuffle(copy=copy)
    module, _ = upto("recognize-moves", net, X)
    golden.check(format_graph(module))
    assert torch.equal(run(module, X), net(X))


@pytest.mark.parametrize("net", [Shuffle(dims=(1, 3), groups=2), Shuffle(dims=(3, 4))])
def test_other_transpositions_stay(net):
    """Channels change places with pixels, or pixels with each other: that is no shuffle."""
    module, _ = upto("recognize-moves", net, X)
    assert "channel_shuffle" not in ops(module)
    assert torch.equal(run(module, X), net(X))


def test_a_reshape_of_all_but_the_batch_is_a_flatten():
    """The batch is read from the value itself, so that every input means the same."""
    module, _ = upto("recognize-moves", Flatten(), X)
    assert ops(module)[-1] == "flatten"
    assert torch.equal(run(module, X), Flatten()(X))


def test_a_reshape_by_another_size_stays():
    """With as many rows as channels it moves images into each other."""
    module, _ = upto("recognize-moves", Flatten(keep=1), X)
    assert "flatten" not in ops(module)
    assert torch.equal(run(module, X), Flatten(keep=1)(X))
