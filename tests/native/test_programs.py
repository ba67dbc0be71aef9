"""Programs give the bits of the graph that they were made of: cases that were once wrong."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.kernels.native.library import ISAS, why_not
from fxq.runtime.native.run import build_native
from fxq.runtime.python import build
from tests.fuzz.native import compare, segments_of, setting
from tests.nets import Fn

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def check(model, *inputs, names=("plain", "amx")):
    """Compiled for native, each instruction set gives what torch gives for the LOWERED graph."""
    compiled = fxq.compile(model.eval(), target="native", example_inputs=inputs, verify=False,
                           calibration_data=[inputs if inputs[1:] else inputs[0]], runtime="python")
    wanted = build(compiled.graph_module)(*inputs)
    for name in names:
        with torch.no_grad(), setting(name, True, 1):
            function = build_native(compiled.graph_module)
            compare(wanted, function(*inputs))
            reasons = [s.reason for s in segments_of(function)]
            assert reasons and not any(reasons), reasons


def test_what_a_negative_padding_cuts_off_is_no_border():
    """A convolution beside the cut reads zeros, not the pixels that were there."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
    for numbers in ((-1, 0, 0, 0), (1, -1, 1, -1), (0, -2, -1, 3)):
        check(Fn(lambda s, x, n=numbers: s.second(F.pad(s.first(x), n)), first=first,
                 second=second), torch.randn(2, 3, 7, 7))


def test_a_negative_padding_of_all_that_there_is():
    """No program holds an empty image: torch computes that part."""
    torch.manual_seed(0)
    model = Fn(lambda s, x: s.conv(F.pad(s.conv(x), (-4, 2))), conv=nn.Conv2d(3, 3, 1))
    with pytest.raises(AssertionError, match="leaves nothing"):
        check(model, torch.randn(2, 3, 5, 4))


def test_a_function_of_the_input():
    """The table behind the first rounding belongs to it."""
    torch.manual_seed(0)
    check(Fn(lambda s, x: s.conv(F.silu(x)), conv=nn.Conv2d(3, 8, 3)), torch.randn(2, 3, 8, 9))


@pytest.mark.parametrize("pool", [
    lambda x: F.adaptive_avg_pool2d(x, 1), lambda x: x.mean((2, 3)), lambda x: F.avg_pool2d(x, 3, 2, 1),
    lambda x: F.adaptive_avg_pool2d(x, (2, 3))])
@pytest.mark.parametrize("channels, side", [(3, 7), (17, 33), (70, 5), (130, 9)])
def test_averages_in_float(pool, channels, side):
    """Lines, panels and rows of channels, for three images."""
    torch.manual_seed(0)
    check(Fn(lambda s, x: pool(s.conv(x)), conv=nn.Conv2d(3, channels, 1)),
          torch.randn(3, 3, side, side), names=("plain", "avx2", "vnni"))


@pytest.mark.parametrize("pool", [
    lambda x: F.avg_pool1d(x, 3, 2, 1), lambda x: F.avg_pool1d(x, 4, 3, ceil_mode=True),
    lambda x: F.adaptive_avg_pool1d(x, 1), lambda x: F.adaptive_avg_pool1d(x, 4),
    lambda x: x.mean(2), lambda x: x.mean(-1, keepdim=True)])
@pytest.mark.parametrize("behind", [nn.Identity(), nn.Sigmoid()])
def test_averages_of_signals(pool, behind):
    """Read in float, and as integers."""
    torch.manual_seed(0)
    check(Fn(lambda s, x: s.behind(pool(s.conv(x))), conv=nn.Conv1d(3, 17, 3), behind=behind),
          torch.randn(3, 3, 21), names=("plain", "avx2", "vnni"))


def test_parts_of_a_concatenation_beside_values_of_all_images():
    """The same value twice is copied from one part to the other; a flat tail is wide memory."""
    torch.manual_seed(0)
    check(Fn(lambda s, x: s.head(torch.cat([y := s.conv(x), y], 1).mean((2, 3))),
             conv=nn.Conv2d(3, 17, 3), head=nn.Linear(34, 5)), torch.randn(3, 3, 6, 6))


@pytest.mark.parametrize("options", [
    {"stride": 2, "padding": 1}, {"stride": (3, 2), "groups": 2, "output_padding": (2, 1)},
    {"stride": 2, "dilation": 3, "padding": 2}, {"stride": 1, "padding": 3}, {"stride": 5}])
def test_transposed_convolutions(options):
    """Every remainder by the strides, also those that no tap meets, and a function behind it."""
    torch.manual_seed(0)
    model = Fn(lambda s, x: s.last(F.silu(s.up(x))), last=nn.Conv2d(6, 4, 3, padding=1),
               up=nn.ConvTranspose2d(4, 6, 4, **options))
    check(model, torch.randn(2, 4, 6, 7), names=ISAS)


def test_transposed_signals():
    """One dimension is an image of one row; the paddings differ from an image's."""
    torch.manual_seed(0)
    check(nn.ConvTranspose1d(5, 3, 3, stride=2, output_padding=1), torch.randn(2, 5, 9))


def test_flattened_images_of_another_size_are_joined_in_torch():
    """A program's concatenation has the width that the example had."""
    x = torch.randn(2, 3, 6, 6)
    model = Fn(lambda s, x: torch.cat([y := torch.flatten(F.relu(x), 1), y], 1)).eval()
    compiled = fxq.compile(model, target="native", example_inputs=(x,), calibration_data=[x])
    assert compiled(torch.randn(2, 3, 6, 7)).shape == (2, 252)
