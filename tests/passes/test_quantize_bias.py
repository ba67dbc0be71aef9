"""quantize-bias: 32-bit biases at the scale of the sums, with an overflow check."""

from dataclasses import replace

import torch
from torch import nn

from fxq.ir.integers import constant_value
from fxq.ir.printer import format_graph
from tests.helpers import MINMAX, codes, finished, run, without_scales
from tests.nets import Classifier, lively, ramp

X = ramp(2, 3, 16, 16)
INT32 = replace(MINMAX, bias="int32")


def test_golden_classifier(golden):
    """Each bias is dequantized from integers."""
    module, _ = finished("quantize-bias", lively(Classifier()), X, scheme=INT32)
    golden.check(without_scales(format_graph(module)))


def test_biases_are_within_half_a_step():
    """b32·(s_x·s_w) is the float bias, to half a step."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    module, _ = finished("quantize-bias", net, X, scheme=INT32)
    node = next(n for n in module.graph.nodes if n.name.startswith("conv2d"))
    scale = getattr(module, node.args[2].args[1].target)
    assert ((constant_value(node.args[2]) - net[0].bias).abs() <= 0.5 * scale * 1.001).all()


def test_float_biases_without_the_option():
    """The twin: bias="float" leaves the graph as it is."""
    _, record = finished("quantize-bias", lively(Classifier()), X)
    assert record.rewrites == ()


def test_overflow_keeps_the_float_bias():
    """A bias that 32 bits cannot hold at the scale of its sums stays in float, and says so (T57)."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    with torch.no_grad():
        net[0].weight.mul_(1e-6)
        net[0].bias.fill_(100.0)
    module, record = finished("quantize-bias", net, X, scheme=INT32)
    assert codes(record) == ["bias-overflow"]
    assert (run(module, X) - 100).abs().max() < 0.5  # half a step of 100 / 255


def test_lowered_model_keeps_the_rounded_bias():
    """Engines that add float biases get the rounded ones: outputs move by less than a step."""
    net = lively(Classifier())
    module, _ = finished("lower", net, X, scheme=INT32)
    plain, _ = finished("lower", net, X)
    assert (run(module, X) - run(plain, X)).abs().max() < 0.05 * run(plain, X).abs().max()
