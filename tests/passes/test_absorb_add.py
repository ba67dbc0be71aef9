"""absorb-add: residual sums join their convolution, and nothing is overwritten too early."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.ir.printer import format_graph
from tests.helpers import finished, ops, rewrites, run, without_scales
from tests.nets import Fn, lively, ramp

X = ramp(1, 16, 62, 66)


def residual(function, **layers):
    convs = {name: nn.Conv2d(16, 16, 3, padding=1) for name in "abc"}
    return lively(Fn(function, **convs, **layers))


def block(s, x):
    first = F.relu(s.a(x))
    return F.relu(s.c(F.relu(s.b(first))) + first)


def absorbed(function, target="x86"):
    net = residual(function)
    module, record = finished("absorb-add", net, X, target=target)
    assert fxq.sqnr(net(X), run(module, X)) > 25
    return module, record


def test_golden_residual(golden):
    """The sum and its ReLU join the convolution that only they read."""
    module, record = absorbed(block)
    golden.check(without_scales(format_graph(module)) + rewrites(record))
    assert "conv2d_add_relu" in ops(module)


def test_other_engines_keep_the_sum():
    """FBGEMM has no such kernel."""
    assert absorbed(block, "fbgemm")[1].rewrites == ()


@pytest.mark.parametrize("function", [
    lambda s, x: s.c((y := s.a(x)) + s.b(y)) + y,  # the sum is not the last reader
    lambda s, x: s.c((y := s.a(x)) + (z := s.b(y))) + z,  # the convolution has other readers
    lambda s, x: s.c((y := s.a(x).relu()) + s.b(y).relu()),  # a ReLU stands between
    lambda s, x: s.c((y := F.max_pool2d(s.a(x), 1)) + s.b(y)),  # a pool may return its input
])
def test_unsafe_sums_stay(function):
    """Memory that somebody may still read is not written over."""
    module, record = absorbed(function)
    first = [r for r in record.rewrites if "adds" in r.what]
    assert len(first) <= 1
    assert any(op in ("add", "add_relu") for op in ops(module))


def test_compiled_result_is_the_same_twice():
    """Calls do not write into what a later call, or the user, reads."""
    net, x = residual(block), X.clone()
    compiled = fxq.compile(net, target="x86", example_inputs=(x,), calibration_data=[x])
    first, second = compiled(x), compiled(x)
    assert "conv2d_add_relu" in compiled.graph_text()
    assert torch.equal(first, second)
    assert torch.equal(x, X)


def test_second_run_changes_nothing():
    """There is no sum left to absorb."""
    from fxq.passes.absorb_add import AbsorbAdd
    from tests.helpers import prepared

    module, _ = absorbed(block)
    context = prepared(residual(block), X, target="x86")[1].context
    assert AbsorbAdd().run(module, context).rewrites == ()
