"""tabulate: functions of one value as tables, where the target looks them up."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxq.analysis.context import Context
from fxq.compiler.verify import integers_of
from fxq.ir import integers
from fxq.ir.facts import qparams
from fxq.ir.printer import format_graph
from fxq.ir.rewriter import constant_of
from fxq.passes.tabulate import Tabulate
from fxq.quantization.schemes import get_scheme
from fxq.targets import get_target
from tests.conformance import oracle
from tests.helpers import finished, without_scales
from tests.nets import Fn, SqueezeExcite, ramp

X = ramp(2, 3, 12, 12)


def between(function):
    return Fn(lambda s, x: s.b(function(s.a(x))), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1))


def tables(module):
    """(quantize node, its table) of each function."""
    return [(n, constant_of(n.args[1])) for n in module.graph.nodes
            if n.target is integers.quantize and len(n.args) > 1]


def test_golden_squeeze_excite(golden):
    """A hardswish and a gate have tables; what they read and make is in the graph."""
    module, record = finished("tabulate", SqueezeExcite(), X, target="native")
    golden.check(without_scales(format_graph(module)))
    assert len(record.rewrites) == len(tables(module)) == 2


@pytest.mark.parametrize("name", ["hardswish", "hardsigmoid", "sigmoid", "tanh", "silu", "gelu",
                                  "mish", "softplus"])
def test_tables_hold_the_function(name):
    """All 256 results are numpy's in float64, within one step; nearly all are the same."""
    module, _ = finished("tabulate", between(getattr(F, name, None) or getattr(torch, name)), X,
                         target="native")
    (node, table), = tables(module)
    source, made = qparams(node.args[0].args[0].args[0]), qparams(node)
    real = oracle.ACTIVATIONS[name](source.scale * (np.arange(256.0) - source.zero_point))
    off = np.abs(table.numpy().astype(int) - oracle.rounded(real, made.scale, made.zero_point))
    assert off.max() <= 1 and (off > 0).sum() <= 2


def test_the_integers_stay():
    """Bit for bit; and the pass does nothing the second time."""
    net = between(lambda v: F.silu(v * 1.5))
    before, _ = finished("absorb-add", net, X, target="native")
    after, _ = finished("tabulate", net, X, target="native")
    values = [integers_of(g, [X]) for g in (before, after)]
    assert all(torch.equal(v, values[1][name]) for name, v in values[0].items())
    text = format_graph(after)
    result = Tabulate().run(after, Context(get_target("native")))
    assert result.rewrites == () and format_graph(after) == text


@pytest.mark.parametrize("function, target, scheme", [
    (F.silu, "fbgemm", "int8_static"), (F.silu, "reference", "int16_static"),
    (F.relu, "native", "int8_static"), (lambda v: F.softmax(v, 1), "native", "int8_static"),
    (lambda v: F.prelu(v, torch.full((4,), 0.1)), "native", "int8_static")])
def test_what_has_no_table(function, target, scheme):
    """Other targets, wide formats, bounds, functions of several values or of many parameters."""
    module, record = finished("tabulate", between(function), X, target=target,
                              scheme=get_scheme(scheme))
    assert record.rewrites == () and not tables(module)
