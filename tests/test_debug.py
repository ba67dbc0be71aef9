"""`fxq.debug` names the node with a planted fault, and none in a clean net; its reproducer."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

import fxq
from fxq.profiler.expected import excess_of, too_short
from fxq.profiler.minimal import leave_reproducer, rerun
from fxq.quantization.formats import QParams
from fxq.reproduce import run
from tests.nets import Classifier, Fn, lively

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    return lively(Classifier())


def compiled(**options):
    return fxq.compile(net(), example_inputs=(X,), calibration_data=[X],
                       **{"target": "native"} | options)


def with_fault(name, change, **options):
    """A compiled model in whose graph one constant was changed."""
    made = compiled(**options)
    setattr(made.graph_module, name, change(getattr(made.graph_module, name)))
    return made


def in_range(value, share):
    """The net with the range of one value cut to a share of it."""
    prepared = fxq.prepare(net(), example_inputs=(X,))
    ranges = fxq.calibrate(prepared, [X]).ranges()
    ranges[value] = tuple(share * bound for bound in ranges[value])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fxq.FxqWarning)  # its outputs are far off, as they shall be
        return fxq.convert(prepared, statistics=fxq.Statistics.from_ranges(ranges))


@pytest.mark.parametrize("options", [
    {"target": "native"}, {"target": "reference"}, {"target": "fbgemm"}, {"target": "x86"},
    {"scheme": "int8_dynamic"}, {"scheme": "int8_weight_only"}, {"isa": "any", "target": "x86"},
    *({"scheme": s, "target": "reference"} for s in ("W4A4", "W8A16", "fp32", "bf16", "fp16"))],
    ids=str)
def test_a_clean_net_has_no_fault(options):
    """Each format explains its own rounding, whatever the scheme and the kernels."""
    found = fxq.debug(compiled(**options), net(), X)
    assert found.first is None and not found.runtime
    assert str(found).startswith("no node is further from float")


@pytest.mark.parametrize("name, change, node", [
    ("block_conv1_multiplier", lambda v: v * 1.25, "block.conv1"),
    ("stem_0_bias_integers", lambda v: v.roll(1), "stem.0"),
    ("head_bias_integers", lambda v: v.roll(1), "head"),
    ("block_conv1_weight_integers", lambda v: v.flip(0), "block.conv1")])
def test_the_node_with_the_fault_is_named(name, change, node):
    """A wrong scale, swapped biases, swapped filters: that node, and no other."""
    found = fxq.debug(with_fault(name, change), net(), X)
    assert [n.name for n in found.faults] == [node]
    assert f"first at fault: {node}" in str(found) and "tests/nets.py" in str(found)


@pytest.mark.parametrize("value, node", [
    ("input0", "input0:quantize"), ("stem.2", "stem.0"), ("%0", "block.conv1"),
    ("block.bn2", "block.conv2")])
def test_a_range_that_saturates_is_named(value, node):
    """A quarter of the range: where its values are made, and nowhere behind it."""
    found = fxq.debug(in_range(value, 0.25), net(), X)
    assert [n.name for n in found.faults] == [node]
    assert "outside of its range" in found.first.cause and found.first.saturated > 0.05


@pytest.mark.parametrize("value", ["input0", "stem.2", "%0", "block.bn2"])
def test_a_range_that_is_wide_enough_is_not(value):
    """The twin: the whole range."""
    assert fxq.debug(in_range(value, 1.0), net(), X).first is None


def test_a_model_that_is_not_its_graph_is_said():
    """The program was linked before the graph was changed: no node explains its outputs."""
    found = fxq.debug(with_fault("head_bias_integers", lambda v: v.roll(1)), net(), X)
    assert "other numbers than its own graph" in found.runtime and found.runtime in str(found)


def test_the_nodes_explain_the_outputs():
    """Errors of single nodes add up to what the outputs are off: as powers, within 3 dB."""
    found = fxq.debug(compiled(), net(), X)
    assert abs(found.explained - found.sqnr) < 3
    assert [n.effect for n in found.worst] == sorted(n.effect for n in found.nodes)[:5]


def test_several_inputs_and_shared_modules():
    """Each value has a finding of its own, whichever module made it."""
    conv = torch.nn.Conv2d(3, 3, 1)
    model = Fn(lambda self, x, y: torch.cat([self.conv(x), self.conv(y)], 1), conv=conv).eval()
    made = fxq.compile(model, target="native", example_inputs=(X, X + 1),
                       calibration_data=[(X, X + 1)])
    found = fxq.debug(made, model, (X, X + 1))
    assert found.first is None and len([n for n in found.nodes if n.kernel == "conv2d"]) == 2


def test_functions_in_place_are_not_at_fault():
    """A float SiLU between kernels writes over its input, of which the debugger keeps its own."""
    model = Fn(lambda self, x: self.b(torch.nn.functional.silu(self.a(x))),
               a=torch.nn.Conv2d(3, 4, 3), b=torch.nn.Conv2d(4, 4, 3)).eval()
    made = fxq.compile(model, target="fbgemm", example_inputs=(X,), calibration_data=[X])
    found = fxq.debug(made, model, X)
    assert "silu" in made.graph_text() and found.first is None


def test_a_loaded_file_is_debugged(tmp_path):
    """Beside the model that it came from."""
    compiled().save(tmp_path / "net.fxq")
    assert fxq.debug(fxq.load(tmp_path / "net.fxq"), net(), X).first is None


def test_json_holds_the_findings(tmp_path):
    """Readable by machines; what is not finite is null."""
    found = fxq.debug(with_fault("head_bias_integers", lambda v: v.roll(1)), net(), X)
    data = json.loads(found.to_json(tmp_path / "found.json"))
    assert data["first"] == "head" and data["nodes"][-1]["excess"] > 6
    assert json.loads((tmp_path / "found.json").read_text()) == data


def test_the_reproducer_holds_the_fault(tmp_path):
    """One node: the recorded result is at fault, its operators and its kernel are not."""
    made = with_fault("block_conv1_multiplier", lambda v: v * 1.25)
    leave_reproducer(tmp_path / "case", made, net(), X, fxq.debug(made, net(), X))
    case = json.loads((tmp_path / "case" / "node.json").read_text())
    assert case["node"] == "block.conv1" and case["inputs"] == 1
    lines = run(tmp_path / "case").splitlines()
    assert [line.endswith("(a fault)") for line in lines[1:]] == [True, False, False]


def test_the_reproducer_of_a_clean_net(tmp_path):
    """The twin: the node that matters most, and no fault anywhere."""
    leave_reproducer(tmp_path / "case", compiled(), net(), X, fxq.debug(compiled(), net(), X))
    assert "(a fault)" not in rerun(tmp_path / "case")


def test_excess_is_that_of_the_worst_channel():
    """One channel of eight with ten times its noise is seen, as ten times."""
    noise = torch.ones(2, 8, 4, 4)
    assert excess_of(noise, torch.ones_like(noise)) == pytest.approx(1)
    noise[:, 3] *= 10
    assert excess_of(noise, torch.ones_like(noise)) == pytest.approx(10)


@pytest.mark.parametrize("high, short", [(1.0, False), (0.98, False), (0.5, True)])
def test_a_short_range_costs_two_bits(high, short):
    """Values spread evenly over 0 to 1 and clipped at c lose (1-c)³/3: 16 / 255² / 12 at 0.96."""
    assert too_short(torch.linspace(0, 1, 1001), QParams(high / 255, 0)) == short
