"""How a part of a graph becomes a program: memory, windows, layouts, and what joins a step."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fxq
from fxq.kernels.native import why_not
from fxq.runtime.native.layouts import Layout, layouts
from fxq.runtime.native.memory import place
from fxq.runtime.native.program import Segment
from fxq.runtime.native.segments import parts_of
from fxq.runtime.native.values import Storage, Value
from fxq.runtime.native.windows import border, pooled, window
from tests.helpers import compiled
from tests.nets import Fn, ramp

NATIVE = pytest.mark.skipif(bool(why_not()), reason=why_not() or "native")
X = ramp(2, 3, 12, 10)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 5)), max_size=12))
def test_storages_of_one_time_share_no_memory(rows):
    """Whatever their sizes and lives; and the arena holds the last byte of each."""
    storages = [Storage(1, size, 7, first=first, last=first + life) for size, first, life in rows]
    end = place(storages)
    for i, a in enumerate(storages):
        assert a.offset + a.bytes <= end
        for b in storages[:i]:
            apart = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
            assert apart or a.last < b.first or b.last < a.first


def test_storages_of_two_times_share_memory():
    """The arena is as large as the larger of them."""
    storages = [Storage(8, 8, 16, first=0, last=1), Storage(4, 4, 16, first=2, last=3)]
    assert place(storages) == storages[0].bytes


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2),
       st.booleans())
def test_pools_have_the_sizes_of_torch(size, kernel, stride, padding, ceil_mode):
    """For every window that torch takes."""
    if 2 * padding > kernel or size + 2 * padding < kernel:
        return
    there = F.max_pool2d(torch.zeros(1, 1, size, size), kernel, stride, padding,
                         ceil_mode=ceil_mode)
    found = pooled(Value(Storage(size, size, 1), size, size, 1),
                   window(kernel, stride, padding, 1, 2), ceil_mode)
    assert found == tuple(there.shape[2:])


def test_a_border_is_what_a_convolution_reads_beyond_the_edges():
    """Stride 2 over an even size leaves the last padding unread."""
    source, geometry = Value(Storage(8, 9, 1), 8, 9, 1), window(3, 2, 1, 1, 2)
    assert border(source, geometry, pooled(source, geometry)) == (1, 1, 0, 1)


class Residual(nn.Module):
    """A sum, a concatenation, and a function behind a convolution."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(
            16, 4, 1)

    def forward(self, x):
        y = F.silu(self.a(x))
        return self.c(torch.cat([y, F.relu(self.b(y) + y)], 1))


def linked(net, x):
    """The first program of a network, and its compiled model."""
    model = fxq.compile(net.eval(), target="native", example_inputs=(x,), calibration_data=[x])
    model(x)
    part = Segment(model.graph_module, parts_of(model.graph_module.graph)[0])
    return part.plan([x]), model


@NATIVE
def test_functions_sums_and_concatenations_take_no_step():
    """Enter, three convolutions with what belongs to them, and leave."""
    plan, _ = linked(Residual(), X)
    assert [s.op for s in plan.steps] == ["ENTER", "CONV", "CONV", "CONV", "LEAVE"]
    assert plan.steps[1].table is not None
    assert plan.steps[2].other is not None
    assert plan.steps[1].result.storage is plan.steps[2].result.storage


@NATIVE
def test_a_sum_takes_the_memory_of_what_only_it_reads():
    """But not of an operand that is read again."""
    once = nn.Sequential(nn.Conv2d(3, 8, 1), Twice(False), nn.Conv2d(8, 2, 1))
    again = nn.Sequential(nn.Conv2d(3, 8, 1), Twice(True), nn.Conv2d(8, 2, 1))
    shared = []
    for net in (once, again):
        plan, _ = linked(net, X)
        step = next(s for s in plan.steps if s.other)
        shared.append(step.other.storage is step.result.storage)
    assert shared == [True, False]


class Twice(nn.Module):
    """x + conv(conv(x)), and x once more where `again`."""

    def __init__(self, again):
        super().__init__()
        self.a, self.b, self.again = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), again

    def forward(self, x):
        y = F.relu(self.b(F.relu(self.a(x))) + x)
        return torch.sigmoid(x) * y if self.again else y


@NATIVE
def test_linear_layers_of_tokens_are_rows():
    """And so is a function between them."""
    net = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))
    x = ramp(2, 5, 6)
    model = fxq.compile(net.eval(), target="native", example_inputs=(x,), calibration_data=[x])
    found = set(layouts(model.graph_module.graph).values())
    assert found == {Layout.ROWS, Layout.TORCH}  # inputs, constants and the output are torch's
    assert torch.equal(model(x[:1]), model(x)[:1])


@NATIVE
@pytest.mark.parametrize("change", [
    lambda x: x.contiguous(memory_format=torch.channels_last), lambda x: x.flip(3).flip(3),
    lambda x: torch.stack([x, x], -1)[..., 1],
    lambda x: torch.complex(x, -x).conj().imag])
def test_the_layout_of_an_input_changes_no_bit(change):
    """Strides of any kind, and views that leave their sign to the reader."""
    _, model = linked(Residual(), X)
    assert torch.equal(model(change(X)), model(X))


@NATIVE
def test_slices_of_single_pixels():
    """A pool writes beside its input; images lie at a distance that is no number of pixels."""
    net = Fn(lambda s, x: s.b(torch.cat([F.max_pool1d(y := s.a(x), 1, 2), y], 1)),
             a=nn.Conv1d(3, 5, 1), b=nn.Conv1d(10, 4, 3, padding=1)).eval()
    x = torch.randn(33, 3, 1, generator=torch.Generator().manual_seed(0))
    model = compiled(net, x, target="native", runtime="native")
    assert not model._function.reason
    assert torch.equal(model(x), compiled(net, x, target="reference")(x))


@NATIVE
def test_rows_of_two_numbers():
    """Linear layers over 5 and over 7 rows are two programs; those that share an input are one."""
    net = Fn(lambda s, x: (s.c(y := s.a(x)), s.d(y), s.e(s.b(x))), a=nn.Conv1d(3, 5, 1),
             b=nn.Conv1d(3, 7, 1), **{k: nn.Linear(6, 4) for k in "cde"}).eval()
    x = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    native, reference = (compiled(net, x, target=t) for t in ("native", "reference"))
    rows = [p for p in parts_of(native.graph_module.graph) if p.rows]
    assert sorted(len(p.outputs) for p in rows) == [1, 2]
    assert all(torch.equal(a, b) for a, b in zip(native(x), reference(x), strict=True))


@NATIVE
def test_sizes_that_are_computed():
    """Resizing to the size of another value is left to torch; the rest runs as programs."""
    net = Fn(lambda s, x: s.b(F.interpolate(F.max_pool2d(y := s.a(x), 2), size=y.shape[-2:]) + y),
             a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 4, 1)).eval()
    native, reference = (compiled(net, X, target=t) for t in ("native", "reference"))
    x = ramp(1, 3, 17, 9)
    assert len(parts_of(native.graph_module.graph)) == 2
    assert torch.equal(native(x), reference(x))
