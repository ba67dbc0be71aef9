"""Scales as small as float32 holds: kernels, requantization and reference against the oracle."""

import pytest
import torch
from torch import nn

import fxq
from fxq.kernels import calls
from fxq.quantization.formats import SMALLEST, unsigned
from fxq.quantization.schemes import S8_PER_CHANNEL
from fxq.quantization.weights import weight_scales
from tests.conformance import run
from tests.conformance.run import TARGETS, checked, tables
from tests.helpers import MINMAX
from tests.nets import Fn, ramp

X = ramp(2, 8, 6, 6)
KERNELS = {
    "conv2d": lambda: nn.Conv2d(8, 8, 3), "conv2d_relu": lambda: nn.Sequential(
        nn.Conv2d(8, 8, 3), nn.ReLU()),
    "conv2d depthwise": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "conv_transpose2d": lambda: nn.ConvTranspose2d(8, 4, 3),
    "linear": lambda: nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)),
    "add": lambda: Fn(lambda s, x: s.a(x) + s.b(x), a=nn.Conv2d(8, 8, 1), b=nn.Conv2d(8, 8, 1)),
    "mul": lambda: Fn(lambda s, x: s.a(x) * torch.sigmoid(s.a(x)), a=nn.Conv2d(8, 8, 1)),
    "cat": lambda: Fn(lambda s, x: torch.cat([s.a(x), s.b(x)], 1), a=nn.Conv2d(8, 8, 1),
                      b=nn.Conv2d(8, 8, 1)),
    "max_pool2d": lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.MaxPool2d(2)),
    "avg_pool2d": lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.AvgPool2d(2), nn.Conv2d(8, 4, 1)),
    "hardswish": lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.Hardswish()),
    "leaky_relu": lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.LeakyReLU()),
    "batch_norm2d": lambda: Fn(lambda s, x: s.n(s.a(x) + s.a(x)), a=nn.Conv2d(8, 8, 1),
                               n=nn.BatchNorm2d(8)),
    "function": lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.SiLU(), nn.Conv2d(8, 4, 1)),
}


@pytest.fixture(autouse=True)
def _remember_weights(monkeypatch):
    monkeypatch.setattr(calls, "prepack", run.remember)
    yield
    run.PACKED.clear()


def small(net, size, weights):
    """The net with values of about `size`: those of its input, or, with `weights`, of weights."""
    with torch.no_grad():
        for layer in [m for m in net.modules() if hasattr(m, "weight")]:
            if weights and not isinstance(layer, nn.BatchNorm2d):
                layer.weight *= size
            layer.bias *= size
    return net.eval(), X if weights else X * size


def compiled(net, x, target):
    with tables(True):
        return fxq.compile(net, target=target, scheme=MINMAX, example_inputs=(x,),
                           calibration_data=[x], runtime="python")


@pytest.mark.parametrize("size", [1e-6, 1e-30])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_small_activations(kernel, target, size):
    """Inputs of 1e-30 lose no more than inputs of 1: kernels stay within a step of float64."""
    net, x = small(KERNELS[kernel](), size, weights=False)
    model = compiled(net, x, target)
    assert "small-values" not in {r.code for r in model.report.left_in_float}
    seen = checked(model, x)
    assert seen and max(worst for _, _, worst in seen.values()) <= 1, seen
    # two or three roundings to 255 steps: each leaves 20·log10(255·sqrt(12) / crest factor) > 38 dB
    assert fxq.sqnr(net(x), model(x)) > 27


@pytest.mark.parametrize("size", [1e-6, 1e-30])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", ["conv2d", "conv2d depthwise", "conv_transpose2d"])
def test_small_weights(kernel, target, size):
    """So with weights of 1e-30."""
    net, x = small(KERNELS[kernel](), size, weights=True)
    model = compiled(net, x, target)
    assert model.report.coverage == 1.0
    assert max(worst for _, _, worst in checked(model, x).values()) <= 1
    assert fxq.sqnr(net(x), model(x)) > 27


@pytest.mark.parametrize("target", ["reference", *TARGETS])
@pytest.mark.parametrize("size", [1e-6, 1e-30])
def test_the_reference_and_the_kernels_agree(target, size):
    """The REFERENCE arithmetic is the same at every size."""
    net, x = small(KERNELS["conv2d_relu"](), size, weights=False)
    assert fxq.sqnr(net(x), compiled(net, x, target)(x)) > 30


@pytest.mark.parametrize("target", TARGETS)
def test_a_product_below_float32_stays_in_float(target):
    """Scales of 1e-22 each are normal, and their product is none: the layer says so."""
    net, x = small(nn.Conv2d(8, 8, 3), 1e-20, weights=True)
    with torch.no_grad():
        net.bias.zero_()
    model = compiled(net, x * 1e-17, target)
    assert [r.code for r in model.report.left_in_float] == ["small-values"]
    assert fxq.sqnr(net(x * 1e-17), model(x * 1e-17)) > 100


@pytest.mark.parametrize("target", TARGETS)
def test_values_below_float32s_normal_range_stay_in_float(target):
    """1e-38 / 255 is no normal number."""
    net, x = small(KERNELS["conv2d"](), 1e-38, weights=False)
    model = compiled(net, x, target)
    assert {r.code for r in model.report.left_in_float} == {"small-values"}


def test_a_bias_that_overflows_beside_its_product_stays_in_float():
    """FBGEMM divides biases by the product of the scales: 100 / 1e-37 is infinite."""
    net = nn.Sequential(nn.Conv2d(8, 8, 1)).eval()
    with torch.no_grad():
        net[0].weight *= 1e-30
        net[0].bias.fill_(100.0)
    model = compiled(net, X * 1e-6, "fbgemm")
    assert [r.code for r in model.report.left_in_float] == ["small-values"]
    assert torch.isfinite(model(X * 1e-6)).all()


@pytest.mark.parametrize("target", TARGETS)
def test_dead_channels_do_not_matter(target):
    """Weights that decayed to 1e-42 in one channel leave their layer on integers."""
    net = nn.Sequential(nn.Conv2d(8, 8, 1)).eval()
    with torch.no_grad():
        net[0].weight[3] = 1e-42
    model = compiled(net, X, target)
    assert model.report.coverage == 1.0 and fxq.sqnr(net(X), model(X)) > 30


@pytest.mark.parametrize("scale", [3e-2, 1e-6, 1e-20, 1e-36])
def test_scales_of_ranges(scale):
    """(high - low) / 255, as small as it is; and never below the smallest normal number."""
    assert unsigned(8).qparams(0.0, 255 * scale).scale == pytest.approx(scale, rel=1e-6)
    assert unsigned(8).qparams(0.0, 1e-40).scale == SMALLEST


def test_weights_of_zeros_take_a_scale_of_the_others():
    """A channel of zeros beside tiny ones: its bias shall have room too."""
    weight = torch.full((3, 4), 1e-20)
    weight[1] = 0.0
    scales, _ = weight_scales(weight, 0, S8_PER_CHANNEL)
    assert scales[1] == scales[0] == scales[2]


@pytest.mark.parametrize("rule", ["mse", "sigma:3", "percentile:99.9"])
def test_rules_for_weights_hold_at_every_size(rule):
    """Squares of 1e-25 underflow in float32; a power of two moves scales exactly."""
    weight, spec = torch.randn(4, 64), S8_PER_CHANNEL
    large, tiny = (weight_scales(w, 0, spec, rule)[0] for w in (weight, weight * 2.0**-83))
    torch.testing.assert_close(tiny * 2.0**83, large, rtol=1e-6, atol=0)


@pytest.mark.parametrize("target", ["fbgemm", "qnnpack"])
def test_dynamic_kernels_round_small_inputs_away(target):
    """torch's dynamic kernels take no scale below 6.1e-5; larger inputs (the twin) they do."""
    net = nn.Sequential(nn.Linear(6, 6, bias=False)).eval()
    for size, codes in ((1.0, []), (1e-4, ["small-values"])):
        x = X * size
        model = fxq.compile(net, target=target, scheme="int8_dynamic", example_inputs=(x,),
                            runtime="python")
        assert [r.code for r in model.report.left_in_float] == codes
        assert fxq.sqnr(net(x), model(x)) > 30


def test_half_precision_loses_small_values():
    """A float16 has no bits left at 1e-6: such a layer stays in float32."""
    net = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)).eval()
    for size, codes in ((1.0, set()), (1e-6, {"range"})):
        x = X * size
        with torch.no_grad():
            for layer in net:
                layer.bias *= size
        model = fxq.compile(net, target="reference", scheme="fp16", example_inputs=(x,))
        assert {r.code for r in model.report.left_in_float} == codes
        assert fxq.sqnr(net(x), model(x)) > 50


def test_training_rounds_small_values():
    """QAT has the formats of the compiled model at 1e-20 too."""
    net, x = small(KERNELS["conv2d"](), 1e-20, weights=False)
    qat = fxq.prepare_qat(net, example_inputs=(x,))
    qat.train()
    qat(x)
    qat.eval()
    assert fxq.sqnr(net(x), qat(x)) > 30
    assert fxq.check_parity(qat, x).sqnr > 40


@pytest.mark.parametrize(("size", "codes"), [(1.0, set()), (1e-3, {"small-values"})])
def test_rows_that_a_layer_norm_enlarges_stay_in_float(size, codes):
    """A class token a thousand times smaller than the patches: 8 bits of their range hold none of
    it, and the norm makes it as large as they are. One of their size stays on integers."""
    net = Fn(lambda s, x: s.out(s.norm(torch.cat([s.cls.expand(4, 1, 16), s.a(x)], 1)))[:, 0],
             a=nn.Linear(16, 16), norm=nn.LayerNorm(16), out=nn.Linear(16, 16),
             cls=nn.Parameter(torch.randn(1, 1, 16) * size)).eval()
    x = torch.randn(4, 8, 16)
    model = fxq.compile(net, example_inputs=(x,), calibration_data=[x], runtime="python")
    assert {r.code for r in model.report.left_in_float if r.op in ("cat", "layer_norm")} == codes
    assert fxq.sqnr(net(x), model(x)) > 25
