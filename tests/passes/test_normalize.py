"""normalize: every spelling becomes the canonical one, and nothing is lost on the way."""

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.ir.printer import format_graph
from tests.helpers import compiled, ops, run, upto
from tests.nets import Fn, ramp

X = ramp(2, 4, 6, 6)


def normal(model, *inputs):
    return upto("normalize", model, *inputs)


@pytest.mark.parametrize("relu", [
    lambda s, x: s.relu(x), lambda s, x: F.relu(x), lambda s, x: F.relu(x, inplace=True),
    lambda s, x: x.relu(), lambda s, x: torch.relu(input=x), lambda s, x: x.relu_()])
def test_every_relu_is_the_same(relu):
    """Module, function, method, keyword and in-place forms become one operator."""
    module, _ = normal(Fn(lambda s, x: relu(s, x * 2), relu=nn.ReLU(inplace=True)), X)
    assert ops(module) == ["mul", "relu"]
    assert torch.equal(run(module, X), torch.relu(X * 2))


def test_golden_attributes_show_only_what_differs(golden):
    """Defaults are not printed, equal tuples become one number."""
    net = nn.Sequential(nn.Conv2d(4, 6, (3, 3), stride=(2, 2), groups=2), nn.Hardtanh(-2, 3),
                        nn.MaxPool2d(2, stride=1), nn.Flatten(), nn.Dropout(), nn.Identity())
    module, _ = normal(net, X)
    golden.check(format_graph(module))
    assert torch.equal(run(module, X), net(X))


def test_golden_shapes_and_slices(golden):
    """Sizes, views, permutations and channel shuffles keep their dynamic batch."""
    def shuffle(s, x):
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        a, b = x.chunk(2, dim=1)
        return torch.cat((b, a), dim=1)[:, :, 1:].permute(0, 2, 3, 1)

    net = Fn(shuffle)
    module, _ = normal(net, X)
    golden.check(format_graph(module))
    assert torch.equal(run(module, X), net(X))
    assert torch.equal(run(module, X[:1]), net(X[:1]))


def test_keyword_only_functional_calls_bind_by_name():
    """F.conv2d(input=..., weight=...) is a conv2d like any other (T10)."""
    net = Fn(lambda s, x: F.conv2d(input=x, weight=s.weight, bias=None, padding=1),
             weight=nn.Parameter(torch.randn(5, 4, 3, 3)))
    module, _ = normal(net, X)
    assert ops(module) == ["conv2d"]
    assert torch.equal(run(module, X), net(X))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel, expected", [(3, ["conv2d"]), (4, ["pad", "conv2d"])])
def test_same_padding_becomes_numbers(kernel, expected):
    """padding="same" is integer padding, or an explicit pad for even kernels (T58)."""
    net = nn.Sequential(nn.Conv2d(4, 4, kernel, padding="same"))
    module, _ = normal(net, X)
    assert ops(module) == expected
    assert torch.allclose(run(module, X), net(X), atol=1e-6)


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_padding_modes_become_explicit(mode):
    """A padding mode is a pad in front of the convolution (T59)."""
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode=mode))
    module, _ = normal(net, X)
    assert ops(module) == ["pad", "conv2d"]
    assert torch.allclose(run(module, X), net(X), atol=1e-6)
    out = compiled(net, X)(X)
    assert fxq.sqnr(net(X), out) > 25


def test_in_place_relu_is_seen_by_the_residual():
    """Later readers of a value that was written in place read the result (T5)."""
    net = Fn(lambda s, x: (lambda y: s.relu(y) + y)(x * 1.0), relu=nn.ReLU(inplace=True))
    module, _ = normal(net, X)
    assert torch.equal(run(module, X), 2 * torch.relu(X))


def test_in_place_add_keeps_the_earlier_reader():
    """Readers before the write read the old value."""
    def function(s, x):
        y = x * 2
        z = y + 1
        y += 1
        return z + y

    module, _ = normal(Fn(function), X)
    assert torch.equal(run(module, X), function(None, X))


def test_writing_through_a_view_is_refused():
    """A write that another view would see cannot be made pure."""
    def function(s, x):
        y = x * 2
        z = y.flatten(1)
        z.relu_()
        return y

    with pytest.raises(fxq.TraceError, match="another view"):
        normal(Fn(function), X)


@pytest.mark.parametrize("write", [
    lambda s, x: s.count.add_(1) + x, lambda s, x: operator.setitem(s.count, 0, 1) or x])
def test_mutated_buffers_are_refused(write):
    """A compiled model keeps no state (T6)."""
    class Counter(Fn):
        def __init__(self):
            super().__init__(write)
            self.register_buffer("count", torch.zeros(1))

    with pytest.raises(fxq.TraceError):
        normal(Counter(), X)


def test_assigning_a_buffer_is_refused_with_the_line():
    """self.count = self.count + 1 names the user's line."""
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x):
            self.count = self.count + 1
            return x + self.count

    with pytest.raises(fxq.TraceError, match="self.count = self.count"):
        normal(Counter(), X)


def test_unknown_operators_stay_and_say_so():
    """What the table does not know runs in float, with a reason."""
    module, record = normal(Fn(lambda s, x: torch.cumsum(x, 1)), X)
    assert [r.code for r in record.refusals] == ["opaque"]
    assert torch.equal(run(module, X), torch.cumsum(X, 1))


def test_active_dropout_is_no_identity():
    """F.dropout with training=True is kept, not dropped."""
    module, _ = normal(Fn(lambda s, x: F.dropout(x, 0.0, training=True)), X)
    assert ops(module) == ["dropout"]


def test_split_into_sizes_that_are_computed_is_left_alone():
    """A size that is read from the input is no number yet."""
    module, _ = normal(Fn(lambda s, x: torch.split(x, x.shape[1] // 2, 1)[0]), X)
    assert "narrow" not in ops(module)


def test_split_of_another_dimension_is_left_alone():
    """Parts of a dimension that may change with the input are not fixed."""
    module, _ = normal(Fn(lambda s, x: torch.chunk(x, 2, dim=2)[0]), X)
    assert "narrow" not in ops(module)
    big = ramp(2, 4, 8, 6)
    assert run(module, big).shape[2] == 4
