"""cast-half: half-precision layers, and float32 where the range or the user asks for it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import fxq
from fxq.compiler.manager import Manager
from fxq.compiler.pipeline import HALF
from fxq.ir.printer import format_graph
from fxq.quantization.schemes import SCHEMES
from tests.helpers import codes, observe, prepared, run, statistics_of
from tests.nets import Classifier, Fn, lively, ramp

X = ramp(2, 3, 16, 16)
FP16 = SCHEMES["fp16"]


def halved(model, *inputs, scheme=FP16, native=False):
    from fxq.compiler.pipeline import PREPARE

    module, manager = prepared(model, *inputs, passes=PREPARE, scheme=scheme, target="reference")
    observe(module, [inputs])
    manager.context = replace(manager.context, statistics=statistics_of(module),
                              native_half=native)
    assert isinstance(manager, Manager)
    manager.run(module, HALF)
    return module, manager.records[-1]


@pytest.mark.parametrize("native", [True, False])
def test_golden_classifier(golden, native):
    """With the arithmetic, and emulated without it."""
    net = lively(Classifier())
    module, _ = halved(net, X, native=native)
    golden.check(format_graph(module))
    # 11 bits of mantissa: a relative error of 2^-11 a layer is 66 dB; a few layers add up
    assert fxq.sqnr(net(X), run(module, X)) > 50


def test_both_ways_agree():
    """Emulation rounds where half-precision kernels round: the results differ by rounding only."""
    net = lively(Classifier())
    a, b = (run(halved(net, X, native=native)[0], X) for native in (True, False))
    assert (a - b).abs().max() <= 4 * 2**-11 * a.abs().max()


def test_outputs_are_float32():
    """The model gives what it gave before."""
    assert run(halved(lively(Classifier()), X)[0], X).dtype is torch.float32


def test_large_values_stay_in_float32():
    """A layer that makes more than float16 can hold is left out, with its range."""
    net = Fn(lambda s, x: s.b(s.a(x) * 1e5), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1))
    module, record = halved(net, X)
    assert set(codes(record)) == {"range"}
    assert torch.isfinite(run(module, X)).all()


def test_bfloat16_has_the_range():
    """The twin: in bfloat16 the same layers are cast."""
    net = Fn(lambda s, x: s.b(s.a(x) * 1e5), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1))
    module, record = halved(net, X, scheme=SCHEMES["bf16"])
    assert codes(record) == []
    assert torch.isfinite(run(module, X)).all()


def test_override_keeps_float32():
    """A layer that the user excepts computes in float32."""
    scheme = replace(FP16, overrides={"head": "fp32"})
    _, record = halved(lively(Classifier()), X, scheme=scheme)
    assert codes(record) == ["override"]
