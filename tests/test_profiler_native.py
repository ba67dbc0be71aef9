"""The profiler on native programs: steps timed inside of the call, and the arena over time."""

import math

import pytest
import torch
from torch import nn

import fxq
from fxq.kernels.native import why_not
from fxq.profiler.drawing import arena
from fxq.profiler.forecast import Times
from fxq.profiler.native import native_cast, programs
from fxq.profiler.values import values_of
from tests.nets import Fn, Residual, lively, ramp

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
X = ramp(2, 3, 16, 16)


def made(net, **options):
    options = {"runtime": "native", "calibrator": "minmax", "verify": False} | options
    return fxq.compile(net, target="native", example_inputs=(X,), calibration_data=[X], **options)


def net():
    """A convolution with a table, a residual, a pool that a view follows, and a float result."""
    torch.manual_seed(0)
    return lively(nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.SiLU(), Residual(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5)))


@pytest.fixture(scope="module")
def compiled():
    return made(net())


@pytest.fixture(scope="module")
def profile(compiled):
    return compiled.profile(X, rounds=6, budget=0.2)


def test_rows_are_the_calls_of_the_program_and_its_nodes(compiled, profile):
    """Every node of the graph has one row, and the program's call another."""
    calls = [n for n in compiled.graph_module.graph.nodes if n.op.startswith("call_")]
    assert [n.kernel for n in profile.nodes].count("call") == 1
    assert len(profile.nodes) == len(calls) + 1


def test_rows_name_the_kernels(profile):
    """Those of the engine, with its instruction set; nodes without a step are free."""
    layers = [n.kernel for n in profile.nodes if n.macs]
    assert layers and all(k.split()[0] == "conv" for k in layers)
    assert layers[0].endswith("+ table")
    free = [n for n in profile.nodes if n.kernel in ("free", "table in the node before")]
    assert len(free) == 2 and all(n.us == 0 for n in free)


def test_what_a_kernel_absorbs_counts_once(compiled, profile):
    """Float's time of the SiLU stands beside the convolution that computes it."""
    table = next(n for n in profile.nodes if n.kernel == "table in the node before")
    assert table.float_us is None and math.isclose(
        sum(n.us for n in profile.nodes), profile.total_us, rel_tol=1e-9)
    assert sum(n.macs for n in profile.nodes) == compiled.report.macs


def test_values_are_compared_as_what_they_stand_for(profile):
    """Integers are dequantized before they are held against float."""
    known = [n.sqnr for n in profile.nodes if n.sqnr is not None]
    assert len(known) >= 5 and min(known) > 15


def test_steps_are_timed_by_the_program(compiled):
    """Each step of a run took some time, and all together no more than the run."""
    found, = programs(compiled.graph_module, [X])
    found(X)
    assert len(found.seconds()) == len(found.kernels) and min(found.seconds()) > 0


def test_nodes_between_programs_are_timed_as_calls():
    """Softmax runs in torch: two programs, and a row for it with no kernel of the engine."""
    float_gate = Fn(lambda s, x: s.b(torch.softmax(s.a(x), 1)), a=nn.Conv2d(3, 8, 3),
                    b=nn.Conv2d(8, 4, 3)).eval()
    found = made(float_gate).profile(X, rounds=5, budget=0.2)
    kernels = {n.name.split(":")[-1]: n.kernel for n in found.nodes}
    assert kernels["softmax"] == "softmax"
    assert [n.kernel for n in found.nodes].count("call") == 2 == len(found.arenas)


def test_parts_of_rows_are_timed_as_they_are_called():
    """Linear layers of tokens, whose programs take all dimensions but the last as one."""
    model = fxq.compile(nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 8)).eval(),
                        target="native", example_inputs=(x := ramp(1, 12, 64),),
                        calibration_data=[x], verify=False)
    found, = programs(model.graph_module, [x])
    assert torch.equal(found(x)[0], model(x)) and found.part.rows
    assert sum(s > 0 for s in found.seconds()) >= 3


def test_the_arena_holds_what_is_in_use(profile):
    """At each step the values fit; over time they take more than the arena has."""
    memory, = profile.arenas
    assert max(memory.in_use) <= memory.bytes < memory.values_bytes
    assert memory.run_bytes >= memory.bytes and profile.peak_bytes >= memory.run_bytes
    for block in memory.blocks:
        assert 0 <= block.first <= block.last < len(memory.steps)
        assert block.offset + block.bytes <= memory.bytes


def test_values_that_live_together_do_not_share(profile):
    """Two boxes of the picture overlap in time or in memory, never in both."""
    memory, = profile.arenas
    for i, a in enumerate(memory.blocks):
        for b in memory.blocks[:i]:
            assert a.last < b.first or b.last < a.first or (
                a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset)


def test_the_page_and_the_json_show_the_arena(profile):
    """One box for each value, and the same numbers as data."""
    memory, = profile.arenas
    assert arena(memory).count("<rect") == len(memory.blocks)
    assert "Memory of the native programs" in profile.to_html()
    assert profile.to_dict()["arenas"][0]["bytes"] == memory.bytes


def test_other_targets_have_no_arena():
    """Nothing is drawn where there is no program."""
    found = fxq.compile(net(), target="reference", example_inputs=(X,), calibration_data=[X],
                        runtime="python", verify=False).profile(X, rounds=5, budget=0.1)
    assert found.arenas == () and "Memory of the native" not in found.to_html()


def test_compare_executes_the_definition(compiled):
    """The values of the graph, node by node, end in the bits of the program."""
    last = list(values_of(compiled.graph_module, [X]).values())[-1]
    assert torch.equal(last, compiled(X))
    assert fxq.compare(net(), compiled, [X]).sqnr > 15


def test_casts_are_measured_in_programs():
    """Quantizing takes some time; shapes without a program are measured in torch."""
    assert native_cast("quantize", (1, 8, 16, 16)).middle > 0
    assert native_cast("dequantize", (1, 2, 2, 2, 2)).middle > 0


def test_a_plan_measures_native_as_a_whole(tmp_path, monkeypatch):
    """Its time is one entry of the cache, and is read from there the next time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    row, = fxq.plan(net(), example_inputs=(X,), targets=["native"], schemes=["int8_static"]).rows
    assert row.us > 0 and row.coverage == 1.0
    known, = (k for k in Times().known if k.startswith("program "))
    assert Times().known[known] == row.us
