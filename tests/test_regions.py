"""Regions that float computes faster, by the target's cost table, stay in float."""

import json

import pytest
import torch
from torch import nn

import fxq
from fxq.compiler.lock import read_lock
from fxq.kernels.native import why_not
from fxq.profiler import slower_regions
from fxq.runtime.native import tune
from fxq.system.timing import Spread
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


def test_other_widths_have_no_costs():
    """Nobody runs 4 bits on `reference` for its speed."""
    model = made(nn.Sequential(nn.Conv2d(64, 4, 1)), NARROW, "reference", scheme="W4A4")
    assert codes(model) == {} and model.report.coverage == 1


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


def doubtful():
    """A layer that gains less than twice its borders, and one that gains far more."""
    torch.manual_seed(0)
    return Fn(lambda s, x: s.wide(torch.softmax(s.narrow(x), 1)), narrow=nn.Conv2d(64, 4, 3),
              wide=nn.Conv2d(4, 256, 7))


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """What the second measurement says of each trial, one after the other."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tune, "_MOST", 2)
    monkeypatch.setattr(tune, "_LEAST", 2)
    trials = []

    def saved(before, after, *_):
        assert before() is not None and after() is not None
        return Spread(*[trials.pop(0)] * 3)

    monkeypatch.setattr(slower_regions, "saved", saved)
    return trials


def test_a_region_that_is_measured_to_lose_stays_in_float(measured):
    """Only what the table doubts is measured: the other layer is not."""
    measured.append(1.0)
    assert codes(made(doubtful(), NARROW, tune=True)) == {
        "conv2d": "measured", "softmax": "no-kernel"}
    assert measured == []


def test_a_region_that_is_not_clearly_slower_stays_on_integers(measured):
    """Its interval holds zero."""
    measured.append(-0.1)
    assert codes(made(doubtful(), NARROW, tune=True)) == {"softmax": "no-kernel"}


def test_a_lock_replays_what_was_measured(measured, tmp_path):
    """The same bytes, without `tune` and without a measurement; without the lock, others."""
    measured.append(1.0)
    files = [tmp_path / name for name in ("tuned", "again", "plain")]
    made(doubtful(), NARROW, tune=True, lock=tmp_path / "fxq.lock").save(files[0])
    made(doubtful(), NARROW, lock=tmp_path / "fxq.lock").save(files[1])
    made(doubtful(), NARROW).save(files[2])
    tuned, again, plain = (f.read_bytes() for f in files)
    assert tuned == again != plain and read_lock(tmp_path / "fxq.lock")["slower"]


def test_builds_without_tune_give_the_same_bytes(tmp_path):
    """Nothing is measured."""
    for name in ("a", "b"):
        made(doubtful(), NARROW, lock=tmp_path / "fxq.lock").save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_lock(tmp_path / "fxq.lock")["slower"] == []


@pytest.mark.parametrize("slower", [7, "conv2d", [3], {"a": 1}])
def test_a_broken_lock_is_refused(slower, tmp_path):
    """`slower` is a list of texts."""
    path = tmp_path / "fxq.lock"
    made(doubtful(), NARROW, lock=path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"slower": slower}))
    with pytest.raises(fxq.ArtifactError, match="no lock of fxq"):
        read_lock(path)


def test_locks_from_before_say_nothing_of_it(tmp_path):
    """They are read as if nothing was measured."""
    path = tmp_path / "fxq.lock"
    made(doubtful(), NARROW, lock=path)
    path.write_text(json.dumps({k: v for k, v in read_lock(path).items() if k != "slower"}))
    assert read_lock(path)["slower"] == []
