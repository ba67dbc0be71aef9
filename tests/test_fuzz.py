"""A quick profile of the fuzzer; `make fuzz` runs it for as long as you like."""

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings

import fxq
from fxq.kernels.native.library import why_not
from fxq.runtime.native.program import Linked
from tests.fuzz import check_hostile, seeds
from tests.fuzz.files import check_bad_file, damaged, resealed
from tests.fuzz.native import check_native
from tests.fuzz.nets import FuzzNet, Recipe, Step, recipes
from tests.fuzz.oracles import check_model
from tests.nets import Classifier, lively, ramp

QUICK = settings(max_examples=20, deadline=None, derandomize=True, database=None,
                 suppress_health_check=list(HealthCheck))


@QUICK
@given(recipes)
def test_every_relation_holds_for_random_models(recipe):
    """Twenty models, the same each time."""
    assert check_model(recipe) in ("ok", "refused")


def test_a_wrong_model_is_caught(monkeypatch):
    """The twin: a compiled model that is off is seen by the oracles."""
    recipe = Recipe(3, 8, 8, (Step("conv", 4, 0, 0),), "head", 1)
    real = fxq.CompiledModel.forward
    monkeypatch.setattr(fxq.CompiledModel, "forward", lambda self, x: real(self, x) + x.sum())
    with pytest.raises(AssertionError):
        check_model(recipe)


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_native_programs_give_the_bits_of_the_graph():
    """Thirty models, the same each time; each at some instruction set and number of threads."""
    found = [check_native(seed) for seed in range(30)]
    assert sum(f["runs"] for f in found) > 60 and sum(f["steps"] for f in found) > 200


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_wrong_program_is_caught(monkeypatch):
    """The twin: one bit of one output is off."""
    real = Linked.__call__
    monkeypatch.setattr(Linked, "__call__", lambda self, *x: tuple(
        [y.clone().view(torch.uint8).bitwise_xor_(1).view(y.dtype) for y in real(self, *x)]))
    with pytest.raises(AssertionError, match="wrong, the first at"):
        check_native(0)


def test_recipes_build_what_they_say():
    """Every kind of step makes a value."""
    net = FuzzNet(Recipe(4, 8, 8, (Step("conv", 4, 0, 0), Step("cat", 0, 1, 0)), "dict", 1))
    assert net(torch.zeros(1, 4, 8, 8))["last"].shape[1] == 8


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    torch.manual_seed(0)
    x, path = ramp(2, 3, 16, 16), tmp_path_factory.mktemp("fuzz") / "a.fxq"
    fxq.compile(lively(Classifier()), example_inputs=(x,), calibration_data=[x],
                runtime="python").save(path)
    return path.read_bytes()


@pytest.mark.parametrize("change", [damaged, resealed])
def test_bad_files_are_refused(content, change, tmp_path):
    """Three hundred damaged, and three hundred resealed files: clear errors only."""
    source = random.Random(0)
    found = [check_bad_file(tmp_path / "x.fxq", change(content, source)) for _ in range(300)]
    assert found.count("refused") > 150 and (change is resealed or "loaded" not in found)


def test_hostile_files_of_the_grammar(tmp_path):
    """A few files of the campaign: refused or harmless, and none that runs code."""
    (tmp_path / "seeds").mkdir()
    seeds.write(tmp_path / "seeds")
    found = check_hostile.run_files(7, 60, tmp_path)
    assert not found["failures"] and found["refused"] > 20 and found["loaded"] > 5


def test_code_that_ran_is_seen(tmp_path, monkeypatch):
    """The twin: a loader that lets a file write its marker fails the campaign."""
    (tmp_path / "seeds").mkdir()
    seeds.write(tmp_path / "seeds", ("classifier",))
    monkeypatch.setattr(check_hostile, "check", lambda path, runtime: (
        (tmp_path / "executed-7").touch(), "loaded")[1])
    assert check_hostile.run_files(7, 1, tmp_path)["failures"][0][0] == "it ran code"
