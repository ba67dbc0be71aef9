"""Linear layers that measure their input: the bits of the definition, from one program."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.kernels.native.library import why_not
from fxq.runtime.native.run import build_native
from fxq.runtime.python import build
from tests.fuzz.native import ODD, compare, segments_of, setting
from tests.nets import Fn

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def compiled(net, x, target="native"):
    return fxq.compile(net.eval(), target=target, scheme="int8_dynamic", example_inputs=(x,),
                       runtime="python")


def check(net, x, *others):
    """Each instruction set and number of threads gives what torch gives for the LOWERED graph."""
    module = compiled(net, x).graph_module
    for name, threads in (("plain", 1), ("avx2", 3), ("vnni", 2), ("amx", 5)):
        with torch.no_grad(), setting(name, True, threads):
            function = build_native(module)
            for tensor in (x, *others):
                compare(build(module)(tensor), function(tensor))
            reasons = [s.reason for s in segments_of(function)]
            assert reasons and not any(reasons), reasons


@pytest.mark.parametrize("rows", [1, 2, 15, 17, 200])
def test_rows(rows):
    """Ranges in one share or many, widths that are multiples of nothing, a ReLU behind."""
    torch.manual_seed(rows)
    check(nn.Sequential(nn.Linear(33, 70), nn.ReLU(), nn.Linear(70, 17, bias=False)),
          torch.randn(rows, 33))


def attention():
    """Three layers that read one value."""
    def call(s, x):
        q, k, v = s.q(x), s.k(x), s.v(x)
        return s.o(F.softmax(q @ k.transpose(-1, -2), -1) @ v)
    return Fn(call, **{name: nn.Linear(64, 64) for name in "qkvo"})


def test_layers_of_one_value_share_its_range():
    """One program measures and rounds once, for three layers."""
    torch.manual_seed(0)
    x = torch.randn(2, 19, 64)
    check(attention(), x)
    function = build_native(compiled(attention(), x).graph_module)
    function(x)
    steps = [[s.op for s in call.plan.steps] for part in segments_of(function)
             for call in part.programs.values()]
    assert steps[0] == ["RANGE", "ENTER", *["CONV", "RESCALE"] * 3]


def test_a_layer_that_reads_another_is_in_its_program():
    """No call from Python between them."""
    torch.manual_seed(0)
    x = torch.randn(9, 8)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    check(net, x)
    assert len(segments_of(build_native(compiled(net, x).graph_module))) == 1


def test_numbers_that_are_none():
    """NaN, infinities, tiny and huge values, all zero; strides of any kind; nothing at all."""
    x = torch.randn(5, len(ODD))
    mixed = torch.stack([x, x], -1)[..., 1].clone()
    mixed[2] = ODD
    check(nn.Linear(len(ODD), 9), x, mixed, x.new_zeros(5, 7), x * 1e-40, x * 1e38,
          torch.randn(7, 5).T, x[:1].expand(5, 7))
    assert compiled(nn.Linear(7, 9), x)(x[:0]).shape == (0, 9)


def test_native_and_reference_give_the_same_bits():
    """And it is close to float."""
    net, x = attention(), torch.randn(2, 19, 64)
    native, reference = (compiled(net, x, t)(x) for t in ("native", "reference"))
    assert torch.equal(native, reference) and fxq.sqnr(net(x), native) > 30


def test_a_batch_has_one_range():
    """The scheme's definition: other rows may change the integers of a row, unlike elsewhere."""
    torch.manual_seed(0)
    x = torch.randn(4, 8)
    model = compiled(nn.Linear(8, 3), x)
    x[3] *= 50
    assert not torch.equal(model(x)[:2], model(x[:2]))
