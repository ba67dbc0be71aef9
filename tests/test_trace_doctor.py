"""Models that torch.fx cannot trace: the smallest module that stops it is called as it is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from tests.helpers import compiled
from tests.nets import Fn, ramp

X = ramp(4, 3, 16, 16)


class Gate(nn.Module):
    """A branch on a value, which no trace can take."""

    def forward(self, x):
        if x.mean() > 0:
            return x
        return -x


class Shapes(nn.Module):
    """A branch on a size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.shape[0] > 2 else self.conv(x) * 0.5


class Inner(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.conv, self.part = nn.Conv2d(3, 8, 3, padding=1), part

    def forward(self, x):
        return F.relu(self.part(F.relu(self.conv(x))))


class Outer(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.block, self.head = Inner(part), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        return self.head(self.block(x)).mean((2, 3))


@pytest.mark.parametrize("part", [Gate, Shapes], ids=lambda p: p.__name__)
def test_the_rest_is_quantized(part):
    """Layers around the module run on integers; the report says which line stopped the trace."""
    net = Outer(part()).eval()
    model = compiled(net, X, runtime="auto")
    left = {r.path: r for r in model.report.left_in_float}
    assert left["block.part"].code == "untraceable"
    assert "control flow" in left["block.part"].reason and "test_trace_doctor.py" in left[
        "block.part"].reason
    assert {"block.conv", "head"}.isdisjoint(left) and model.report.runtime == "python"
    assert fxq.sqnr(net(X), model(X)) > 25


@pytest.mark.parametrize("sign", [1, -1])
def test_branches_stay_alive(sign):
    """Each call takes its own branch, as in the float model."""
    net = Outer(Gate()).eval()
    with torch.no_grad():
        net.block.conv.bias.fill_(0.3)
    model = compiled(net, X)
    assert fxq.sqnr(net(sign * X), model(sign * X)) > 20
    shapes = Outer(Shapes()).eval()
    model = compiled(shapes, X)
    assert fxq.sqnr(shapes(X[:1]), model(X[:1])) > 20 and fxq.sqnr(shapes(X), model(X)) > 20


def test_strict_refuses():
    """strict=True makes it an error that names the module."""
    with pytest.raises(fxq.UnsupportedOpError, match=r"block\.part"):
        compiled(Outer(Gate()).eval(), X, strict=True)


def test_two_culprits():
    """Each is found; both are called as they are."""
    net = nn.Sequential(Inner(Gate()), nn.Conv2d(8, 3, 1), Inner(Shapes())).eval()
    codes = [(r.path, r.code) for r in compiled(net, X).report.left_in_float]
    assert ("0.part", "untraceable") in codes and ("2.part", "untraceable") in codes


def test_the_models_own_forward_is_an_error(golden):
    """Nothing would be left to quantize: the error says what to change."""
    with pytest.raises(fxq.TraceError, match="cannot be traced") as caught:
        compiled(Gate(), X)
    assert "if x.mean() > 0" in caught.value.where
    golden.check(f"{caught.value}\n".replace(caught.value.where.split(" ")[0], "FILE:LINE"))


def test_a_module_that_returns_a_tuple():
    """Its parts are taken apart outside of it."""
    class Two(nn.Module):
        def forward(self, x):
            return (x, x) if x.mean() > 0 else (x, -x)

    class User(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = Two()

        def forward(self, x):
            a, b = self.two(x)
            return a + b

    net = nn.Sequential(nn.Conv2d(3, 8, 1), User(), nn.Conv2d(8, 4, 1)).eval()
    model = compiled(net, X)
    assert [r.path for r in model.report.left_in_float if r.code == "untraceable"] == ["1.two"]
    assert fxq.sqnr(net(X), model(X)) > 20


def test_training_goes_through(tmp_path):
    """QAT calls the module too, and a file refuses it by name."""
    net = Outer(Shapes()).eval()
    qat = fxq.prepare_qat(net, example_inputs=(X,))
    qat(X).square().mean().backward()
    assert qat.model.block.part.conv.weight.grad is not None
    with pytest.raises(fxq.ArtifactError, match=r"block\.part|Shapes"):
        fxq.convert(qat, runtime="python").save(tmp_path / "a.fxq")


def test_traceable_models_have_no_such_code():
    """The twin: without a branch, nothing is untraceable."""
    net = Outer(Fn(lambda s, x: s.conv(x), conv=nn.Conv2d(8, 8, 1))).eval()
    assert "untraceable" not in {r.code for r in compiled(net, X).report.left_in_float}


class Swallows(nn.Module):
    """Asks for a number in a `try`, and goes on without it."""

    def __init__(self, ask):
        super().__init__()
        self.conv, self.ask = nn.Conv2d(8, 8, 1), ask

    def forward(self, x):
        y = self.conv(x)
        try:
            y = y * 3 if self.ask(x) else y
        except Exception:
            y = y - 1
        return y


ASKS = {"bool": lambda x: x.mean() > -100, "int": lambda x: int(x.mean() + 100),
        "float": lambda x: float(x.mean() + 100), "len": len,
        "iteration": lambda x: [row for row in x]}  # noqa: C416


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_an_error_that_the_model_swallows_is_remembered(ask):
    """The module is called as it is, so that no branch is lost."""
    net = Outer(Swallows(ask)).eval()
    model = compiled(net, X)
    assert "block.part" in {r.path for r in model.report.left_in_float if r.code == "untraceable"}
    with torch.no_grad():
        assert fxq.sqnr(net(X), model(X)) > 20


def test_a_forward_that_swallows_is_an_error():
    """Where the model's own forward does it, nothing would be left."""
    net = Swallows(ASKS["bool"]).eval()
    with pytest.raises(fxq.TraceError, match="catches an error of tracing") as caught:
        compiled(net, ramp(2, 8, 4, 4))
    assert "self.ask(x)" in caught.value.where
