"""tune=True: variants are measured, kept for this machine, and read again; bits stay."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import fxq
from fxq.kernels.native import why_not
from fxq.runtime.native import tune, variants
from fxq.runtime.native.run import build_native
from tests.nets import Residual, lively, ramp

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
X = ramp(2, 3, 16, 16)
ODD = 1 << 8 | 1 << 16  # one chunk, narrow panels


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tune, "_MOST", 2)
    monkeypatch.setattr(tune, "_LEAST", 2)
    return tmp_path / "fxq"


def made(**options):
    torch.manual_seed(0)
    net = lively(nn.Sequential(nn.Conv2d(3, 24, 3), nn.SiLU(), Residual(24), nn.Flatten(),
                               nn.Linear(24 * 14 * 14, 5)))
    return fxq.compile(net, target="native", example_inputs=(X,), calibration_data=[X],
                       calibrator="minmax", **options)


def program_of(model):
    """What a later process would run."""
    function = build_native(model.graph_module)
    function(X)
    linked, = function.programs.values()
    return linked


def always(times, candidates):
    """As if one variant had won everywhere."""
    return [ODD] * times.shape[2]


def test_a_tuned_model_has_the_same_bits_and_file(tmp_path):
    """What is measured is in no artifact."""
    plain, tuned = made(), made(tune=True)
    assert torch.equal(plain(X), tuned(X)) and tuned.report.tuning.startswith("tuned ")
    for name, model in (("plain", plain), ("tuned", tuned)):
        model.save(tmp_path / name)
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "tuned").read_bytes()
    assert "tuning" in str(tuned.report) and "tuning" not in str(plain.report)


def test_what_won_is_kept_and_read_again(folder, monkeypatch):
    """By the next link of the same program, in this process and from the file."""
    monkeypatch.setattr(tune, "choose", always)
    monkeypatch.setattr(tune, "_halves", lambda whole: np.array([[2.0, 1.0]] * 2))
    model = made(tune=True)
    linked = program_of(model)
    steps = len(linked.plan.steps)
    assert f"tuned {steps} of {steps} steps" in model.report.tuning
    kept, = folder.glob("tuned-*.json")
    assert json.loads(kept.read_text()) == {linked.digest: [ODD] * steps}
    variants._kept.cache_clear()
    assert variants.known(linked.digest, steps) == [ODD] * steps
    assert torch.equal(model(X), made()(X))


def test_what_is_not_faster_as_a_whole_is_dropped(monkeypatch):
    """Whatever the steps said."""
    monkeypatch.setattr(tune, "choose", always)
    monkeypatch.setattr(tune, "_halves", lambda whole: np.array([[1.0, 1.0]] * 2))
    assert made(tune=True).report.tuning.startswith("tuned none of ")


@pytest.mark.parametrize("content", [
    "", "[]", "{", '{"DIGEST": 7}', '{"DIGEST": [0]}', '{"DIGEST": [EVIL]}',
    "[" * 100_000, '{"DIGEST": ["1"]}'])
def test_a_hostile_cache_changes_nothing(folder, content):
    """No error, no variant, the same bits."""
    model = made()
    linked = program_of(model)
    steps, path = len(linked.plan.steps), variants._file()
    path.parent.mkdir(parents=True, exist_ok=True)
    evil = ", ".join(["16777216", "true", "1e9", "-1"] * steps).split(", ")[:steps]
    path.write_text(content.replace("DIGEST", linked.digest).replace("EVIL", ", ".join(evil)))
    variants._kept.cache_clear()
    assert variants.known(linked.digest, steps) == [0] * steps
    assert torch.equal(made()(X), model(X))


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path, monkeypatch):
    """The process itself still has what it measured."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert made(tune=True).report.tuning.startswith("tuned ")


@pytest.mark.parametrize("gain, wins", [(0.5, True), (0.99, False)])
def test_a_step_leaves_the_rule_only_for_a_clear_gain(gain, wins):
    """In the even rounds and in the odd ones."""
    times = np.full((3, 4, 2), 100.0)
    times[2, :, 1] *= gain
    assert tune.choose(times, [0, 7, 9]) == [0, 9 if wins else 0]
    times[2, 1::2, 1] = 100.0  # the odd rounds disagree
    assert tune.choose(times, [0, 7, 9]) == [0, 0]


def test_only_native_programs_are_tuned():
    """Refused before any work."""
    with pytest.raises(fxq.ConfigError, match="only native programs can be tuned"):
        fxq.compile(nn.Linear(4, 4), target="fbgemm", example_inputs=(torch.ones(1, 4),), tune=True)
