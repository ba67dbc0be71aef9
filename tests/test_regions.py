"""Regions that float computes faster, by the target's cost table, stay in float."""

import pytest
import torch
from torch import nn

import fxq
from fxq.kernels.native import why_not
from fxq.targets import get_target
from tests.nets import Fn, ramp

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def made(net, x, target="native", **options):
    return fxq.compile(net.eval(), target=target, example_inputs=(x,), calibration_data=[x],
                       verify=False, **options)


def codes(model):
    return {r.op: r.code for r in model.report.left_in_float}


NARROW = ramp(1, 64, 28, 28)  # 50 thousand numbers cross the border, for 0.2 M products


def test_a_region_below_its_borders_stays_in_float():
    """The whole model: no integer node is left, the report says why, and results are float's."""
    net = nn.Sequential(nn.Conv2d(64, 4, 1))
    model = made(net, NARROW)
    assert codes(model) == {"conv2d": "cost"} and model.report.coverage == 0
    assert torch.equal(model(NARROW), net(NARROW))


def test_a_region_above_its_borders_is_on_integers():
    """The same borders, and nine times the products for each of more results."""
    model = made(nn.Sequential(nn.Conv2d(64, 64, 3)), NARROW)
    assert codes(model) == {} and model.report.coverage == 1


def test_only_the_region_that_loses_is_left():
    """Float operators divide a network; each side is weighed on its own."""
    net = Fn(lambda s, x: s.wide(torch.softmax(s.narrow(x), 1)), narrow=nn.Conv2d(64, 4, 1),
             wide=nn.Conv2d(4, 64, 3))
    assert codes(made(net, NARROW)) == {"conv2d": "cost", "softmax": "no-kernel"}


def test_layers_that_read_one_value_share_its_cast():
    """Together they gain what one alone would not."""
    net = Fn(lambda s, x: [layer(x) for layer in s.layers],
             layers=nn.ModuleList(nn.Conv2d(64, 8, 1) for _ in range(6)))
    alone = made(nn.Sequential(nn.Conv2d(64, 8, 1)), NARROW)
    assert codes(alone) == {"conv2d": "cost"} and codes(made(net, NARROW)) == {}


def test_integers_that_are_asked_for_are_given():
    """An override names the layer."""
    model = made(nn.Sequential(nn.Conv2d(64, 4, 1)), NARROW, overrides={"0": "int8_static"})
    assert codes(model) == {} and model.report.coverage == 1


def test_reference_places_as_native_does():
    """It is native's meaning; other targets have no such table."""
    net = nn.Sequential(nn.Conv2d(64, 4, 1))
    assert codes(made(net, NARROW, "reference")) == {"conv2d": "cost"}
    assert get_target("fbgemm").regions is None
