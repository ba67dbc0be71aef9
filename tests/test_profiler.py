"""The profiler: rows that add up, pairs with float, and every form it is written in."""

import csv
import io
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import fxq
from fxq.profiler.clock import DeviceClock, time_nodes
from fxq.profiler.memory import peak_bytes
from fxq.profiler.profile import Profile
from tests.nets import Classifier, lively, ramp

X = ramp(2, 3, 16, 16)


def made():
    torch.manual_seed(0)
    return lively(Classifier())


@pytest.fixture(scope="module")
def compiled():
    return fxq.compile(made(), target="x86", example_inputs=(X,),
                       calibration_data=[X], runtime="python")


@pytest.fixture(scope="module")
def profile(compiled):
    return compiled.profile(X, rounds=6, budget=0.2)


def test_every_call_has_a_row(compiled, profile):
    """In the order of the graph, with the user's line."""
    calls = [n for n in compiled.graph_module.graph.nodes if n.op.startswith("call_")]
    assert len(profile.nodes) == len(calls)
    assert all("nets.py" in n.source for n in profile.nodes if n.macs)


def test_macs_and_bytes_add_up(compiled, profile):
    """The rows' MACs are the report's; weight bytes are the file's."""
    assert sum(n.macs for n in profile.nodes) == compiled.report.macs
    assert sum(n.weight_bytes for n in profile.nodes) == compiled.size_bytes


def test_time_is_split_over_the_nodes(profile):
    """Shares add up to one, and the sum of all is what the headline says."""
    assert math.isclose(sum(n.share for n in profile.nodes), 1.0, rel_tol=1e-9)
    assert math.isclose(sum(n.us for n in profile.nodes), profile.total_us, rel_tol=1e-9)


def test_float_time_is_attributed_once(compiled, profile):
    """No float work is lost or counted twice; casts have none."""
    paired = [n for n in profile.nodes if n.float_us is not None]
    assert all(n.float_us == 0 for n in paired if n.cast)
    layers = [n for n in profile.nodes if n.macs]
    assert all(n.float_us for n in layers)


class Halting(nn.Module):
    """It decides by its data, so it is called as it is."""

    def forward(self, x):
        return x * 2 if x.mean() > 0 else x


def test_code_of_the_model_has_a_float_side_too():
    """What no file can hold is timed beside float all the same."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Halting(), nn.Conv2d(8, 8, 3)).eval()
    compiled = fxq.compile(net, example_inputs=(X,), calibration_data=[X], runtime="python")
    with pytest.raises(fxq.ArtifactError, match="Halting cannot be kept"):
        compiled.save("nowhere.fxq")
    profile = compiled.profile(X, rounds=5, budget=0.5)
    assert profile.float_us > 0
    assert all(n.float_us is not None for n in profile.nodes if n.macs)
    assert all(n.sqnr is not None for n in profile.nodes if n.macs)


def test_device_clocks_wait_for_the_last_event(monkeypatch):
    """Events are read after the device has passed them; here a queue stands in for a GPU's."""
    passed = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = 3.0 * len(passed)
            passed.append(self)

        def synchronize(self):
            self.waited = True

        def elapsed_time(self, later):
            assert passed[-1].waited
            return later.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    stamps = [DeviceClock.stamp() for _ in range(4)]
    assert DeviceClock.seconds(stamps).tolist() == [0.003] * 3


def test_clocks_see_each_call():
    """A node that sleeps gets the time."""
    import time as clock

    def slow(x):
        clock.sleep(0.01)
        return x

    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output((graph.call_function(torch.relu, (graph.call_function(slow, (x,)),)),))
    timing = time_nodes(torch.fx.GraphModule({}, graph), [X], 5, 1.0)
    sleeping, relu = np.median(timing.samples, 0)
    assert sleeping > 0.01 and sleeping > relu


def test_quality_falls_where_bits_do(compiled, profile):
    """Every integer value is compared with float; the outputs are near the report's figure."""
    known = [n.sqnr for n in profile.nodes if n.sqnr is not None]
    assert min(known) > 15
    assert len(known) > len(profile.nodes) / 2


def test_peak_memory_counts_what_is_alive_at_once():
    """Two tensors of 4 MB are alive together, then freed."""
    def run():
        a = torch.ones(1 << 20)
        b = a + 1
        del a
        return b * 2

    assert (2 << 22) <= peak_bytes(run) < (3 << 22)


def test_json_and_csv_hold_the_same_rows(profile, tmp_path):
    """Returned as text, and written where a path is given."""
    text = profile.to_json(tmp_path / "p.json")
    assert text == (tmp_path / "p.json").read_text()
    rows = list(csv.DictReader(io.StringIO(profile.to_csv())))
    names = [n["name"] for n in json.loads(text)["nodes"]]
    assert [r["name"] for r in rows] == names


def test_markdown_and_table_name_every_node(profile):
    """Tables for people."""
    for text in (profile.to_markdown(), str(profile), profile._repr_html_()):
        assert "conv2d_relu" in text or "conv2d" in text
        assert "GMAC/s" in text


def test_chrome_trace_is_one_line_of_time(profile):
    """Complete events, one after the other."""
    events = json.loads(profile.to_chrome_trace())["traceEvents"]
    assert [e["name"] for e in events] == [n.name for n in profile.nodes]
    assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-6 for a, b in pairwise(events))


def test_page_is_self_contained_and_escaped(profile):
    """No remote resource; a hostile module name is text."""
    from dataclasses import replace

    hostile = replace(profile.nodes[0], name="<script>alert(1)</script>", source='"><b>')
    page = replace(profile, nodes=(hostile, *profile.nodes[1:])).to_html()
    assert "<script>alert" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_loaded_files_have_a_float_side(compiled, tmp_path):
    """Without the model, float is what the integers stand for."""
    compiled.save(tmp_path / "m.fxq")
    found = fxq.load(tmp_path / "m.fxq", runtime="python").profile(X, rounds=5, budget=0.1)
    assert isinstance(found, Profile)
    assert found.float_us > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_what_cannot_run_cannot_be_profiled():
    """A GPU's model on a machine without one."""
    model = fxq.compile(lively(Classifier()), target="cuda_fp16", scheme="fp16",
                        example_inputs=(X,))
    with pytest.raises(fxq.TargetUnavailableError):
        model.profile(X)


def test_half_and_float_schemes_are_profiled():
    """Their graphs have no integers."""
    for scheme in ("fp32", "bf16"):
        model = fxq.compile(lively(Classifier()), target="reference", scheme=scheme,
                            example_inputs=(X,), runtime="python")
        assert model.profile(X, rounds=5, budget=0.1).total_us > 0


def test_diff_finds_what_changed(compiled, profile):
    """The same profile twice has no change; another target's has other nodes."""
    same = fxq.diff(profile, profile)
    assert all(n.change_us == 0 for n in same.nodes)
    other = fxq.compile(lively(Classifier()), scheme="fp32", example_inputs=(X,), runtime="python")
    found = fxq.diff(profile, other.profile(X, rounds=5, budget=0.1))
    assert found.size_change > 0
    assert "together" in str(found)


class TestCompare:
    """fxq.compare against the float model."""

    def test_worst_value_comes_first(self, compiled):
        """Every value is there, and the outputs' figure is the model's."""
        found = fxq.compare(made(), compiled, [X])
        assert [n.sqnr for n in found.nodes] == sorted(n.sqnr for n in found.nodes)
        assert math.isclose(found.sqnr, fxq.sqnr(made()(X), compiled(X)),
                            rel_tol=1e-3)
        assert found.top1 is None

    def test_labels_give_accuracy_and_confusion(self, compiled):
        """(input, label) batches."""
        labels = made()(X).argmax(1)
        found = fxq.compare(made(), compiled, [(X, labels)])
        assert found.float_top1 == 100
        assert sum(map(sum, found.confusion[0])) == len(X)
        assert found.drop == 100 - found.top1
        json.loads(found.to_json())

    def test_a_broken_layer_is_found(self):
        """A layer with two bits is the worst one."""
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3)).eval()
        with pytest.warns(fxq.FxqWarning, match=r"most is lost at 1 \(conv2d"):
            model = fxq.compile(net, target="reference", overrides={"1": "W2A8"},
                                example_inputs=(X,), calibration_data=[X], runtime="python")
        found = {n.name: n.sqnr for n in fxq.compare(net, model, [X]).nodes}
        assert found["1"] < found["0"] - 10

    def test_no_data_is_an_error(self, compiled):
        """Nothing to compare."""
        with pytest.raises(fxq.CalibrationError, match="no batches"):
            fxq.compare(made(), compiled, [])


def test_sensitivity_puts_the_most_sensitive_layer_first():
    """A layer whose weights have an outlier loses most when it alone has four bits."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    with torch.no_grad():
        net[2].weight[:, 0] *= 50
    found = fxq.sensitivity(net, [X], scheme="W4A8")
    assert next(iter(found)) == "2"


class TestPlan:
    """fxq.plan: figures without data."""

    def test_coverage_and_size_are_those_of_compiling(self, compiled, tmp_path, monkeypatch):
        """Times are kept, and read by the next plan."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        first = fxq.plan(made(), example_inputs=(X,), targets=("x86",))
        row = next(r for r in first.rows if r.scheme == "int8_static")
        assert row.size_bytes == compiled.size_bytes
        assert row.coverage == compiled.report.coverage
        assert row.us > 0
        again = fxq.plan(made(), example_inputs=(X,), targets=("x86",))
        assert [r.us for r in again.rows] == [r.us for r in first.rows]

    def test_illegal_pairs_say_why(self, tmp_path, monkeypatch):
        """No pair is left out."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        found = fxq.plan(made(), example_inputs=(X,), targets=("cuda_fp16",),
                         schemes=("int8_static", "fp16"))
        assert "no int8 convolution" in found.rows[0].reason
        assert found.rows[1].us is None or torch.cuda.is_available()

    def test_a_broken_cache_is_measured_again(self, tmp_path, monkeypatch):
        """Whatever stands in the file."""
        from fxq.profiler.forecast import Times

        (tmp_path / "t.json").write_text("[1, 2")
        assert Times(tmp_path / "t.json").known == {}
