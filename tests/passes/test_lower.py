"""lower: kernels, packed weights, and integers within one step of REFERENCE."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.ir.printer import format_graph
from tests.helpers import compiled, finished, ops, without_scales
from tests.nets import Classifier, Fn, SqueezeExcite, lively, ramp

X = ramp(2, 4, 12, 12)


def test_golden_classifier(golden):
    """Nothing is left between the kernels."""
    x = ramp(2, 3, 16, 16)
    net = lively(Classifier())
    module, _ = finished("lower", net, x)
    golden.check(without_scales(format_graph(module)))
    assert "dequantize_weight" not in ops(module)


def test_golden_squeeze_excite(golden):
    """A gate stays on integers from end to end (T68)."""
    x = ramp(2, 3, 12, 12)
    net = SqueezeExcite()
    module, record = finished("lower", net, x)
    golden.check(without_scales(format_graph(module)))
    assert record.refusals == ()


CASES = {
    "conv1d": (nn.Conv1d(4, 6, 3), ramp(2, 4, 20)),
    "conv2d groups": (nn.Conv2d(4, 8, 3, groups=2, stride=2), X),
    "conv2d dilated": (nn.Conv2d(4, 8, 3, dilation=2), X),
    "conv3d": (nn.Conv3d(4, 4, 2), ramp(2, 4, 5, 5, 5)),
    "transposed 1d": (nn.ConvTranspose1d(4, 4, 3, stride=2), ramp(2, 4, 9)),
    "transposed 2d": (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), X),
    "linear": (nn.Linear(12, 5), X),
    "hardswish": (nn.Hardswish(), X), "hardsigmoid": (nn.Hardsigmoid(), X),
    "sigmoid": (nn.Sigmoid(), X), "tanh": (nn.Tanh(), X), "elu": (nn.ELU(), X),
    "leaky_relu": (nn.LeakyReLU(0.2), X), "max_pool2d": (nn.MaxPool2d(3, 2, 1), X),
    "max_pool2d ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), X),
    "avg_pool2d": (nn.AvgPool2d(2), X),
    "avg_pool2d inner": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), X),
    "adaptive": (nn.AdaptiveAvgPool2d(1), X), "flatten": (nn.Flatten(), X),
    "shuffle": (nn.ChannelShuffle(2), X), "pixel_shuffle": (nn.PixelShuffle(2), X),
    "zero pad": (nn.ZeroPad2d((1, 2, 0, 1)), X),
    "batch_norm": (lively(nn.BatchNorm2d(4)), X),
}


@pytest.mark.parametrize("name", CASES)
def test_each_operator_is_within_one_step(name):
    """The manager compares every kernel with REFERENCE; all formats of input give one result."""
    layer, x = CASES[name]
    width = x.shape[1] if x.dim() < 5 else 4
    front = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[x.dim()](x.shape[1], width, 1)
    back = Fn(lambda s, y: torch.relu(y))  # so that averages are read as integers
    model = compiled(nn.Sequential(front, layer, back), x)
    assert model.report.coverage == 1.0
    assert [r.op for r in model.report.left_in_float] == []
    assert torch.equal(model(x), torch.cat([model(x[:1]), model(x[1:])]))
    if x.dim() == 4:
        assert torch.equal(model(x), model(x.contiguous(memory_format=torch.channels_last)))


@pytest.mark.parametrize("name", [n for n, (_, x) in CASES.items() if x.dim() == 4])
@pytest.mark.parametrize("side", [1, 2, 5])
def test_each_operator_is_right_at_other_sizes(name, side):
    """A 1x1 input has no memory format of its own; kernels must not mix up its channels."""
    layer, _ = CASES[name]
    net, small = nn.Sequential(nn.Conv2d(4, 8, 1), layer_for(name, layer)), X[:, :, :side, :side]
    try:
        net(small)
    except RuntimeError:
        pytest.skip("the operator itself does not take this size")
    fbgemm, reference = compiled(net, X), compiled(net, X, target="reference")
    steps = (fbgemm(small) - reference(small)).abs() / largest_scale(reference)
    assert steps.max() <= 2.01  # one step of the convolution, one of the operator


def layer_for(name, layer):
    """The same operator for eight channels, which most kernels take a faster path for."""
    wide = {"conv2d groups": nn.Conv2d(8, 8, 3, groups=2, stride=2, padding=1),
            "conv2d dilated": nn.Conv2d(8, 8, 3, dilation=2, padding=2),
            "transposed 2d": nn.ConvTranspose2d(8, 8, 3, stride=2, output_padding=1),
            "linear": nn.Flatten(0, 0), "batch_norm": lively(nn.BatchNorm2d(8))}
    return wide.get(name, layer)


def largest_scale(model):
    from fxq.ir.facts import qparams

    return max(q.scale for n in model.graph_module.graph.nodes if (q := qparams(n)))


@pytest.mark.parametrize("height, channels, kernels", [(2, 8, 0), (3, 8, 1), (2, 4, 1)])
def test_wrong_direct_path_stays_in_float(height, channels, kernels):
    """FBGEMM's transposed kernels of height 2 are off by up to 255 where channels divide by 8."""
    net = nn.Sequential(nn.ConvTranspose2d(channels, channels, (height, 2), stride=2))
    x = ramp(2, channels, 5, 5)
    model = compiled(net, x)
    assert model.report.coverage == kernels
    assert fxq.sqnr(net(x), model(x)) > 25

@pytest.mark.parametrize("act, op", [(nn.Hardswish(), "hardswish"), (nn.ReLU(), "relu"),
                                     (nn.MaxPool2d(2), "max_pool2d")])
def test_excepted_operators_between_integers_stay_in_float(act, op):
    """An operator that was kept in float is not lowered because its neighbours are integers."""
    net = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Hardtanh(-9, 9), act, nn.Conv2d(8, 4, 1))
    model = compiled(net, X, overrides={"2": "fp32"})
    kernels = [n for n in model.graph_module.graph.nodes if n.op == "call_function"
               and n.target in (torch.relu, torch.max_pool2d, torch.ops.quantized.hardswish._op)]
    assert [(r.op, r.code) for r in model.report.left_in_float] == [(op, "override")]
    assert all(not n.meta.get("fxq.qparams") for n in kernels)
    assert fxq.sqnr(net(X), model(X)) > 30


def test_enlarging_average_stays_in_float():
    """torch's kernel is off by up to 255 from 1x1 input; the model is right at any size."""
    net = nn.Sequential(nn.Conv2d(4, 8, 1), nn.AdaptiveAvgPool2d(3), nn.Conv2d(8, 4, 1))
    model, small = compiled(net, X), X[:, :, :1, :1]
    assert [(r.op, r.code) for r in model.report.left_in_float] == [("adaptive_avg_pool2d", "limit")]
    assert fxq.sqnr(net(small), model(small)) > 30


@pytest.mark.parametrize("function", [
    lambda s, x: s.a(x) + s.b(x), lambda s, x: F.relu(s.a(x) + s.b(x)),
    lambda s, x: s.a(x) * s.b(x), lambda s, x: s.a(x) * F.adaptive_avg_pool2d(s.b(x), 1),
    lambda s, x: F.adaptive_avg_pool2d(s.b(x), 1) * s.a(x),
    lambda s, x: torch.cat([s.a(x), s.b(x), s.a(x)], 1),
    lambda s, x: s.a(x).mean((2, 3)) + s.b(x).mean((2, 3)),
    lambda s, x: torch.cat([torch.sigmoid(s.a(x)), torch.tanh(s.b(x)), s.b(x)], 1),
    lambda s, x: torch.cat([F.max_pool2d(torch.sigmoid(s.a(x)), 3, 1, 1), torch.tanh(s.a(x))], 1),
])
def test_operators_of_two_values(function):
    """Adds, products (broadcast too) and cats are within one step."""
    net = Fn(function, a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 3, padding=1))
    model = compiled(net, X)
    assert [r.op for r in model.report.left_in_float] == []
    assert torch.equal(model(X), torch.cat([model(X[:1]), model(X[1:])]))
