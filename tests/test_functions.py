"""Functions without a kernel: a table or float in between, chosen by cost, equal in every bit."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.ir.ops import OPS
from fxq.kernels.lookup_tables import FLOAT, TABLE
from fxq.targets import costs
from fxq.targets.base import ELEMENTWISE_OPS
from fxq.targets.common import COMMON
from fxq.targets.costs import BETWEEN, SIZES
from tests.helpers import MINMAX
from tests.nets import Fn, lively, ramp

FUNCTIONS = (F.silu, F.gelu, F.mish, F.softplus, lambda v: v - 3, lambda v: v * 0.5 + 1,
             lambda v: v**2, lambda v: v / 4, lambda v: 1 - v, F.celu, F.selu, F.softsign,
             F.logsigmoid, F.tanhshrink, F.softshrink, F.hardshrink, torch.abs, torch.neg, torch.erf,
             torch.sin, torch.cos, torch.square, lambda v: F.threshold(v, 0.1, -0.5))


def compiled(function, size):
    torch.manual_seed(0)
    net = lively(Fn(lambda s, x: s.b(function(s.a(x))), a=nn.Conv2d(3, 8, 1),
                    b=nn.Conv2d(8, 4, 1)))
    x = ramp(1, 3, size, size, low=-4, high=4)
    return fxq.compile(net, scheme=MINMAX, example_inputs=(x,), calibration_data=[x],
                       runtime="python"), x


@pytest.mark.parametrize("function", FUNCTIONS)
def test_table_and_float_give_the_same_bits(function, monkeypatch):
    """A table holds what the function gives for each of its 256 inputs."""
    results = []
    for way in (TABLE, FLOAT):
        monkeypatch.setattr("fxq.passes.lower_kernels.choose", lambda node, costs, way=way: replace(
            fxq.kernels.lookup_tables.choose(node, costs), way=way))
        model, x = compiled(function, 9)
        assert ("function" in model.graph_text()) == (way == TABLE)
        results.append(model(x))
    assert torch.equal(*results)


@pytest.mark.parametrize("function, size, way", [
    (F.gelu, 1, TABLE), (F.gelu, 64, FLOAT), (F.mish, 64, TABLE), (F.silu, 64, FLOAT)])
def test_the_cost_table_decides(function, size, way):
    """A slow function takes the table, a fast one float; the report has both costs."""
    model, _ = compiled(function, size)
    choice, = model.report.choices
    assert choice.way == way
    assert (choice.table_us < choice.float_us) == (way == TABLE)
    assert "functions without a kernel" in str(model.report)


def test_a_function_that_is_read_in_float_stays_there():
    """Rounding its result would buy nothing."""
    net, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU()).eval(), ramp(1, 3, 8, 8)
    model = fxq.compile(net, example_inputs=(x,), calibration_data=[x], runtime="python")
    assert [r.code for r in model.report.left_in_float] == ["float-output"]


def test_slopes_of_a_channel_are_no_table():
    """PReLU with one slope per channel needs more than one integer to know its result."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4), nn.Conv2d(4, 4, 1)).eval()
    x = ramp(1, 3, 2, 2)
    model = fxq.compile(net, example_inputs=(x,), calibration_data=[x], runtime="python")
    assert model.report.choices[0].way == FLOAT
    assert fxq.sqnr(net(x), model(x)) > 25


def test_a_linear_layer_hands_float_to_its_function():
    """Its kernel can skip the rounding, which saves a cast and keeps bits."""
    net = nn.Sequential(nn.Linear(32, 512), nn.GELU(), nn.Linear(512, 4)).eval()
    x = ramp(64, 32)
    model = fxq.compile(net, example_inputs=(x,), calibration_data=[x], runtime="python")
    assert "linear_float" in model.graph_text()
    assert [(r.op, r.code) for r in model.report.left_in_float] == [("gelu", "float-input")]


def test_each_function_has_its_costs():
    """A row without times could not be chosen by them."""
    elementwise = {name for name, op in OPS.items() if op.elementwise}
    rows = {k.op for k in COMMON if k.call == "function"} - {ELEMENTWISE_OPS}
    assert elementwise | rows == set(BETWEEN)
    assert {len(times) for times in (SIZES, costs.TABLE, *BETWEEN.values())} == {len(SIZES)}


def test_the_costs_are_those_of_the_measured_machines():
    """`targets/costs.py` is what the published tables combine to, row by row."""
    path = Path(__file__).parent.parent / "benchmarks" / "combine_costs.py"
    found = runpy.run_path(str(path))
    tables = [found["read"](p) for p in found["MEASURED"]]
    table, between = found["combined"](tables)
    assert table == costs.TABLE
    assert between == BETWEEN
    first = {name: tuple(values) for name, values in tables[0].items()}
    of_one_machine = found["worst_loss"](tables, first.pop("a table"), first)
    assert found["worst_loss"](tables, table, between) < 1.41 < 2.5 < of_one_machine


def test_no_machine_loses_more_than_it_must():
    """One machine 4 times faster in float, one twice as fast by table: float, at a loss of 2."""
    path = Path(__file__).parent.parent / "benchmarks" / "combine_costs.py"
    combined = runpy.run_path(str(path))["combined"]
    machines = [{"a table": [8.0], "f": [2.0]}, {"a table": [8.0], "f": [16.0]}]
    assert combined(machines) == ((8.0,), {"f": (5.7,)})
    assert combined([{"a table": [8.0], "f": [16.0]}] * 2) == ((8.0,), {"f": (16.0,)})
