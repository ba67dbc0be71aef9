"""Programs give the bits of the graph that they were made of: cases that were once wrong."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.kernels.native.library import why_not
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
            assert segments_of(function) and not any(s.reason for s in segments_of(function))


def test_what_a_negative_padding_cuts_off_is_no_border():
    """A convolution beside the cut reads zeros, not the pixels that were there."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
    for numbers in ((-1, 0, 0, 0), (1, -1, 1, -1), (0, -2, -1, 3)):
        check(Fn(lambda s, x, n=numbers: s.second(F.pad(s.first(x), n)), first=first,
                 second=second), torch.randn(2, 3, 7, 7))


def test_a_function_of_the_input():
    """The table behind the first rounding belongs to it."""
    torch.manual_seed(0)
    check(Fn(lambda s, x: s.conv(F.silu(x)), conv=nn.Conv2d(3, 8, 3)), torch.randn(2, 3, 8, 9))


def test_parts_of_a_concatenation_beside_values_of_all_images():
    """The same value twice is copied from one part to the other; a flat tail is wide memory."""
    torch.manual_seed(0)
    check(Fn(lambda s, x: s.head(torch.cat([y := s.conv(x), y], 1).mean((2, 3))),
             conv=nn.Conv2d(3, 17, 3), head=nn.Linear(34, 5)), torch.randn(3, 3, 6, 6))
