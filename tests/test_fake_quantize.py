"""Rounding in training: half a step, straight-through gradients, any memory layout."""

import pytest
import torch

from fxq.qat.fake_quantize import FakeQuantize, RoundHalf
from fxq.quantization.formats import QSpec, signed, unsigned
from tests.nets import ramp


@pytest.mark.parametrize("view", [lambda x: x[:, ::2], lambda x: x.permute(0, 2, 3, 1),
                                  lambda x: x.contiguous(memory_format=torch.channels_last)])
def test_strided_values_are_rounded_like_others(view):
    """Fake quantization does not care how a value lies in memory (T45)."""
    quantizer, x = FakeQuantize("x", unsigned(8)), view(ramp(2, 4, 5, 5))
    assert torch.equal(quantizer(x), FakeQuantize("x", unsigned(8))(x.contiguous()))


@pytest.mark.parametrize("spec", [unsigned(8), signed(4), signed(16), QSpec(0, 127)])
def test_law_rounding_is_within_half_a_step(spec):
    """Inside of the range, rounding moves a value by at most half a step."""
    quantizer, x = FakeQuantize("x", spec), ramp(1000, low=-3.0, high=5.0)
    scale = float(quantizer(x) is not None and quantizer.qparams().scale)
    assert (quantizer(x) - x).abs().max() <= scale * 0.5 * (1 + 1e-5) + scale * (spec.symmetric * 0.5)


def test_gradient_passes_inside_and_stops_outside():
    """Straight through inside of the range; zero where the value saturates."""
    quantizer = FakeQuantize("x", unsigned(8))
    quantizer.set_range(-1.0, 1.0)
    x = torch.tensor([-2.0, -0.5, 0.0, 0.7, 3.0], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_half_rounding_passes_gradients():
    """fp16 training rounds values, not gradients."""
    x = torch.tensor([1.0001, -3.14159], requires_grad=True)
    y = RoundHalf("x", torch.float16)(x)
    (1e-6 * y).sum().backward()
    assert torch.equal(y, x.detach().half().float())
    assert torch.equal(x.grad, torch.full((2,), 1e-6))
