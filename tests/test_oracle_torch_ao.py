"""Against torch.ao's convert_fx: the same ranges give the same formats and the same integers."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.system.torch_state import quiet, using_engine
from tests.helpers import MINMAX

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated",
                                        "ignore:.*reduce_range will be deprecated",
                                        "ignore:must run observer", "ignore:.*TypedStorage")
ORACLE = __import__("dataclasses").replace(MINMAX, pair_safe=False,
                                              float_averages=False)


def mapping():
    from torch.ao.quantization import (
        MinMaxObserver,
        PerChannelMinMaxObserver,
        QConfig,
        QConfigMapping,
    )

    activation = MinMaxObserver.with_args(dtype=torch.quint8)
    weight = PerChannelMinMaxObserver.with_args(dtype=torch.qint8,
                                                qscheme=torch.per_channel_symmetric)
    return QConfigMapping().set_global(QConfig(activation, weight))


def torch_ao(model, batch):
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        prepared = prepare_fx(copy.deepcopy(model), mapping(), (batch,))
        prepared(batch)
        return convert_fx(prepared)
    finally:
        torch.backends.quantized.engine = before


class Generated(nn.Module):
    """A random chain of conv (depthwise too), relu, add, cat and pool, with a linear head.

    Nothing is folded (no batch norm), so that both sides start from the same float weights.
    Values behind an average are not the output: fxq keeps those in float.
    """

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        pick = lambda n: int(torch.randint(n, (1,), generator=generator))  # noqa: E731
        channels, self.steps = 8, []
        self.layers = nn.ModuleList()
        for _ in range(3 + pick(4)):
            kind = ("conv", "depthwise", "add", "cat", "max", "avg")[pick(6)]
            relu, wide = bool(pick(2)), 8 * (1 + pick(2))
            layer, channels = self._layer(kind, channels, wide)
            self.layers.append(layer)
            self.steps.append((kind, relu))
        self.head = nn.Linear(channels, 10)

    @staticmethod
    def _layer(kind, channels, wide):
        if kind == "conv":
            return nn.Conv2d(channels, wide, 3, padding=1), wide
        if kind in ("depthwise", "add", "cat"):
            groups = channels if kind == "depthwise" else 1
            layer = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
            return layer, 2 * channels if kind == "cat" else channels
        pool = nn.MaxPool2d(3, 1, 1) if kind == "max" else nn.AvgPool2d(3, 1, 1)
        return nn.Sequential(nn.Conv2d(channels, channels, 1), pool), channels

    def forward(self, x):
        for layer, (kind, relu) in zip(self.layers, self.steps, strict=True):
            y = layer(x)
            x = x + y if kind == "add" else torch.cat([x, y], 1) if kind == "cat" else y
            x = F.relu(x) if relu else x
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def check_same_integers(seed):
    """fxq's last integers, dequantized, equal torch.ao's; its formats are the same set."""
    model = Generated(seed).eval()
    torch.manual_seed(seed)
    batch = torch.randn(2, 8, 10, 10)
    peer = torch_ao(model, batch)
    ours = fxq.compile(model, scheme=ORACLE, example_inputs=(batch,), calibration_data=[batch],
                       runtime="python", verify=False)
    # fxq lays its input out in channels_last; torch's add rounds ties by the layout it meets
    images = batch.contiguous(memory_format=torch.channels_last)
    ours_values, peer_values = integer_values(ours, images), peer_integer_values(peer, images)
    assert len(ours_values) >= 3
    for position, (a, b) in enumerate(zip(ours_values, peer_values, strict=False)):
        assert a.q_scale() == b.q_scale(), f"scale of value {position}"
        assert a.q_zero_point() == b.q_zero_point(), f"zero point of value {position}"
        assert torch.equal(a.int_repr(), b.int_repr()), f"integers of value {position}"
    assert len(ours_values) in (len(peer_values), len(peer_values) - 1)  # fxq's head gives float


def integer_values(compiled, batch):
    values = []

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            made = n.op == "call_function" and n.target is not torch.Tensor.contiguous
            if made and isinstance(value, torch.Tensor) and value.is_quantized:
                values.append(value)
            return value

    with torch.no_grad(), quiet():
        Recorder(compiled.graph_module).run(batch)
    return values


def peer_integer_values(module, batch):
    values = []

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if n.op in ("call_function", "call_module", "call_method") and isinstance(
                    value, torch.Tensor) and value.is_quantized:
                values.append(value)
            return value

    with torch.no_grad(), using_engine("fbgemm"), quiet():
        Recorder(module).run(batch)
    return values


@pytest.mark.parametrize("seed", range(25))
def test_same_integers_as_convert_fx(seed):
    """Same scales, same zero points, same bits, for every value of a generated net."""
    check_same_integers(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25, 325))
def test_same_integers_as_convert_fx_many(seed):
    """The same for hundreds."""
    check_same_integers(seed)


def test_a_different_range_is_seen():
    """The comparison fails when one side has other ranges."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    a, b = torch.randn(1, 3, 4, 4), 2 * torch.randn(1, 3, 4, 4)
    ours = fxq.compile(model, scheme=ORACLE, example_inputs=(a,), calibration_data=[a],
                       runtime="python", verify=False)
    assert integer_values(ours, a)[0].q_scale() != peer_integer_values(torch_ao(model, b), a)[0].q_scale()
