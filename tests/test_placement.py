"""Where operators compute, and why: averages, float islands, logits, overrides."""

import torch
import torch.nn.functional as F
from torch import nn

import fxq
from tests.helpers import compiled, ops
from tests.nets import Classifier, Fn, lively, ramp

X = ramp(2, 4, 8, 8)


def left(model):
    return {r.op: r.code for r in model.report.left_in_float}


def test_average_that_is_the_output_keeps_its_bits():
    """Logits that are averages do not tie at the scale of their inputs."""
    net = Fn(lambda s, x: torch.flatten(F.adaptive_avg_pool2d(s.conv(x), 1), 1),
             conv=nn.Conv2d(4, 8, 1))
    model = compiled(net, X)
    assert left(model) == {"adaptive_avg_pool2d": "average", "flatten": "average"}


def test_average_that_a_layer_reads_is_integer():
    """Behind it comes an integer layer, so that the average stays on integers."""
    model = compiled(lively(Classifier()), ramp(2, 3, 16, 16))
    assert left(model) == {}


def test_average_of_a_quantized_float_is_integer():
    """A gate reads the float value as integers anyway, and so may its average."""
    def gate(s, x):
        y = F.group_norm(s.body(x), 2)
        return s.tail(y * torch.sigmoid(s.gate(F.adaptive_avg_pool2d(y, 1))))

    net = Fn(gate, body=nn.Conv2d(4, 4, 1), gate=nn.Conv2d(4, 4, 1), tail=nn.Conv2d(4, 4, 1))
    assert left(compiled(net, X)) == {"group_norm": "no-kernel"}


def test_narrow_average_is_computed_in_float():
    """An average that spans a few steps of its input's scale would be rounded away."""
    x = ramp(2, 4, 8, 8, low=-1, high=1) * torch.tensor([1.0, -1.0]).repeat(32).reshape(8, 8)
    net = Fn(lambda s, x: s.head(s.conv(x * 1.0).mean((2, 3))), conv=nn.Conv2d(4, 4, 1),
             head=nn.Linear(4, 3))
    nn.init.dirac_(net.conv.weight)
    nn.init.zeros_(net.conv.bias)
    model = compiled(net, x)
    assert ("mean", "average") in left(model).items()
    assert fxq.sqnr(net(x), model(x)) > 30


def test_float_neighbours_stay_in_float():
    """An add of two float values is not converted for its own sake."""
    net = Fn(lambda s, x: F.silu(x) + F.gelu(x))
    assert left(compiled(net, X))["add"] == "float-input"


def test_last_linear_layer_gives_float():
    """The sums keep all their bits: no quantize, no dequantize behind the last layer."""
    model = compiled(lively(Classifier()), ramp(2, 3, 16, 16))
    assert ops(model.graph_module)[-1] == "linear_float"


def test_linear_layer_that_an_integer_layer_reads_gives_integers():
    """Between two layers the value stays on integers."""
    x = ramp(3, 8)
    model = compiled(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), x)
    assert ops(model.graph_module) == ["quantize", "linear", "dequantize", "linear_float"]


def test_half_precision_models_stay_in_float():
    """The kernels take float32; another type runs as it is, with the reason."""
    model = compiled(nn.Sequential(nn.Conv2d(4, 4, 1)).bfloat16(), X.bfloat16())
    assert left(model) == {"conv2d": "dtype"}


def test_overrides_by_path_type_and_operator():
    """A glob, a module type and an operator's name all except their nodes."""
    net = lively(Classifier())
    x = ramp(2, 3, 16, 16)
    for key, path in (("he*", "head"), (nn.Linear, "head"), ("linear", "head"),
                      ("block.*", "block.conv1")):
        model = compiled(net, x, overrides={key: "fp32"})
        assert path in [r.path for r in model.report.left_in_float if r.code == "override"]
        assert fxq.sqnr(net(x), model(x)) > 25


def test_values_of_constants_need_no_statistics():
    """A parameter that is reshaped on the way is a constant, not a value to observe."""
    net = Fn(lambda s, x: s.c(x) * s.gamma.reshape(1, -1, 1, 1), c=nn.Conv2d(3, 4, 1),
             gamma=nn.Parameter(torch.rand(4)))
    x = ramp(2, 3, 8, 8)
    model = compiled(net, x)
    assert "limit" in {r.code for r in model.report.left_in_float if r.op == "mul"}
    assert fxq.sqnr(net(x), model(x)) > 25
