"""Images of bytes: what float makes of each byte is a table of the entry step, bit for bit."""

import pytest
import torch
from torch import nn

import fxq
from fxq.cli.artifact import verify_artifact
from fxq.ir import arithmetic
from fxq.ir.facts import qparams
from fxq.kernels.native.library import isas, why_not
from fxq.runtime.native.run import build_native
from fxq.runtime.python import build
from tests.fuzz.native import compare, segments_of, setting

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


class Normalize(nn.Module):
    """As `transforms.Normalize` does it, behind a division by 255."""

    def __init__(self, mean=MEAN, std=STD):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x):
        return (x.float() / 255 - self.mean) / self.std


def images(n, size=13):
    return torch.randint(0, 256, (n, 3, size, size + 4), dtype=torch.uint8)


def compiled(first, x, target="native"):
    torch.manual_seed(0)
    net = nn.Sequential(first, nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                        nn.Flatten(), nn.Linear(8, 5)).eval()
    return fxq.compile(net, target=target, example_inputs=(x,), calibration_data=[x])


def functions(model):
    return [n.target for n in model.graph_module.graph.nodes if n.op.startswith("call")]


def test_bytes_enter_by_a_table():
    """One program is the whole model; the chain is gone; bits are those of the chain."""
    x = images(3)
    model = compiled(Normalize(), x)
    table = next(t for n, t in model.graph_module.named_buffers() if t.shape == (3, 256))
    entry = next(n for n in model.graph_module.graph.nodes if n.target is arithmetic.enter_bytes)
    assert functions(model)[0] is arithmetic.enter_bytes and entry.args[0].op == "placeholder"
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    form = qparams(entry)
    wanted = arithmetic.enter(Normalize()(every), low=form.low, high=form.high, zero=form.zero_point,
                              multiplier=float(torch.tensor(1 / form.scale)))
    assert torch.equal(table, wanted.reshape(3, 256))
    assert not torch.equal(table, wanted.reshape(3, 256).flip(0))


@pytest.mark.parametrize("lay", [
    lambda x: x, lambda x: x.contiguous(memory_format=torch.channels_last), lambda x: x[:1],
    lambda x: x.flip(0)[:, :, 1:, 2:], lambda x: x[:1].expand(x.shape)])
def test_any_layout(lay):
    """Each instruction set and number of threads, by the caller's strides."""
    x = images(3)
    module = compiled(Normalize(), x).graph_module
    for name in isas():
        for threads in (1, 2):
            with torch.no_grad(), setting(name, True, threads):
                function = build_native(module)
                compare(build(module)(lay(x)), function(lay(x)))
                assert not any(s.reason for s in segments_of(function))


def test_native_and_reference_give_the_same_bits():
    """And close to float, for other images than those of the calibration."""
    x, y = images(3), images(2)
    native, reference = (compiled(Normalize(), x, t)(y) for t in ("native", "reference"))
    assert torch.equal(native, reference)


def test_a_file_holds_the_program(tmp_path):
    """It takes the same bytes, and gives the same bits."""
    x = images(2)
    model = compiled(Normalize(), x)
    model.save(tmp_path / "x.fxq")
    loaded = fxq.load(tmp_path / "x.fxq")
    assert torch.equal(loaded(x), model(x)) and torch.equal(loaded(x[:1]), model(x[:1]))
    assert "the program is the one" in verify_artifact(tmp_path / "x.fxq", None)


def test_a_number_for_each_pixel_stays_in_float():
    """The twin: such a chain is no function of a byte and its channel."""
    x = images(2)
    model = compiled(Normalize(torch.rand(1, 3, 13, 17)), x)
    assert arithmetic.enter_bytes not in functions(model) and torch.isfinite(model(x)).all()
