"""Products of two values: the bits of the definition, on tensors as the caller has them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.kernels.native.library import isas, why_not
from fxq.runtime.native.run import build_native
from fxq.runtime.python import build
from tests.fuzz.native import compare, segments_of, setting
from tests.nets import Fn

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def heads(x, count):
    """Rows of channels as matrices of several heads: a view."""
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def compiled(call, x, target="native", **layers):
    """By the cost table so few numbers would stay in float: a name decides."""
    return fxq.compile(Fn(call, **layers).eval(), target=target, example_inputs=(x,),
                       calibration_data=[x], overrides={"q": "int8_static"})


def check(model, *inputs):
    """Each instruction set and number of threads gives what torch gives for the LOWERED graph."""
    module = model.graph_module
    for name in isas():
        for threads in (1, 2):
            with torch.no_grad(), setting(name, True, threads):
                function = build_native(module)
                for x in inputs:
                    compare(build(module)(x), function(x))
                assert not any(s.reason for s in segments_of(function))


def kernels(model, x):
    """The steps of all programs that ran."""
    function = build_native(model.graph_module)
    function(x)
    return [step.op for s in segments_of(function) for p in s.programs.values() for step in p.plan.steps]


def scores(count):
    return lambda s, x: heads(s.q(x), count) @ heads(s.k(x), count).transpose(-2, -1)


@pytest.mark.parametrize("width, tokens, count", [(12, 5, 2), (24, 17, 1), (64, 70, 4), (66, 3, 2)])
def test_scores_of_attention(width, tokens, count):
    """Batches of 1 and 3; widths and numbers of tokens that are multiples of nothing."""
    torch.manual_seed(width)
    x = torch.randn(3, tokens, width)
    model = compiled(scores(count), x, q=nn.Linear(width, width), k=nn.Linear(width, width))
    assert kernels(model, x).count("MATMUL") == 1
    check(model, x, x[:1], 2 * x[:, :2])


def test_channels_times_channels():
    """The first operand is turned too: cross-covariance."""
    torch.manual_seed(0)
    x = torch.randn(3, 33, 20)
    model = compiled(lambda s, v: s.q(v).transpose(1, 2) @ s.k(v), x, q=nn.Linear(20, 20),
                     k=nn.Linear(20, 24))
    assert kernels(model, x).count("MATMUL") == 1
    check(model, x, x[:1])


def test_a_product_that_is_read_as_integers():
    """Attention without a softmax: products of products."""
    torch.manual_seed(0)
    x = torch.randn(2, 19, 16)
    model = compiled(lambda s, v: F.relu(s.q(v)) @ (F.relu(s.k(v)).transpose(1, 2) @ s.v(v)), x,
                     **{name: nn.Linear(16, 16) for name in "qkv"})
    assert kernels(model, x).count("MATMUL") == 2 and "matmul" in model.graph_text()
    check(model, x, x[:1])


def test_a_value_times_itself():
    """One tensor is both operands."""
    torch.manual_seed(0)
    x = torch.randn(2, 9, 9)
    model = compiled(lambda s, v: torch.bmm(y := s.q(v), y), x, q=nn.Linear(9, 9))
    check(model, x, x[:1])


def test_native_and_reference_give_the_same_bits():
    """And it is close to float."""
    torch.manual_seed(0)
    x, layers = torch.randn(2, 19, 64), {"q": nn.Linear(64, 64), "k": nn.Linear(64, 64)}
    native, reference = (compiled(scores(4), x, t, **layers)(x) for t in ("native", "reference"))
    assert torch.equal(native, reference)
    assert fxq.sqnr(Fn(scores(4), **layers)(x), native) > 30


def test_probabilities_stay_in_float():
    """With the reason; the scores behind them do not."""
    def call(s, x):
        q, k = heads(s.q(x), 4), heads(s.k(x), 4)
        return F.softmax(q @ k.transpose(-2, -1), -1) @ k
    x = torch.randn(2, 19, 64)
    model = compiled(call, x, q=nn.Linear(64, 64), k=nn.Linear(64, 64))
    left = [r.reason for r in model.report.left_in_float if r.op == "matmul"]
    assert left == ["probabilities of 8 bits cost 5 to 6 dB where attention is peaked"]
    assert kernels(model, x).count("MATMUL") == 1


def test_matrices_that_fit_no_program():
    """None at all: torch computes them, by the definition."""
    x = torch.randn(2, 5, 12)
    model = compiled(lambda s, v: s.q(v) @ s.k(v).transpose(1, 2), x, q=nn.Linear(12, 12),
                     k=nn.Linear(12, 12))
    assert model(x[:, :0]).shape == (2, 0, 0)
