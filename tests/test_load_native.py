"""Loading native artifacts: programs are held to the outputs that the file records."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import fxq
from fxq.api import load as loading
from fxq.artifact.read import open_artifact
from fxq.kernels.native import why_not
from tests.nets import Classifier, lively, ramp

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
X = ramp(2, 3, 16, 16)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(file, outputs) of a small classifier."""
    torch.manual_seed(0)
    compiled = fxq.compile(lively(Classifier()), target="native", example_inputs=(X,),
                           calibration_data=[X], calibrator="minmax", verify=False)
    path = tmp_path_factory.mktemp("native") / "model.fxq"
    compiled.save(path)
    return path, compiled(X)


@pytest.fixture
def ways(monkeypatch):
    """Which checks a load made: step by step, or not."""
    seen, model = [], loading._model
    monkeypatch.setattr(loading, "_model", lambda *args, stepwise: (
        seen.append(stepwise), model(*args, stepwise=stepwise))[1])
    return seen


def test_a_program_is_held_to_the_recorded_outputs(saved, ways):
    """One inference is enough: its bits are the same on every machine."""
    path, expected = saved
    assert open_artifact(path).manifest["check"]
    assert torch.equal(fxq.load(path)(X), expected)
    assert ways == [False]


def test_outputs_that_differ_are_checked_step_by_step(saved, ways, monkeypatch):
    """The failing twin: without a record that agrees, each kernel is compared on its own."""
    path, expected = saved
    monkeypatch.setattr(loading, "check_of", lambda *_: {"outputs": "others"})
    assert torch.equal(fxq.load(path)(X), expected)
    assert ways == [False, True]


def test_wrong_kernels_are_refused(saved, monkeypatch):
    """A program that gives other bits than its graph is never handed out."""
    from fxq.runtime.native.program import Linked

    run = Linked.__call__
    monkeypatch.setattr(Linked, "__call__", lambda self, *x: tuple(y + 1 for y in run(self, *x)))
    with pytest.raises((fxq.VerificationError, fxq.ArtifactError), match="other bits|cannot run"):
        fxq.load(saved[0])


def test_texts_of_a_loaded_model_are_written_when_read(saved):
    """Both stages that a file has, as they were when it was compiled."""
    model = fxq.load(saved[0])
    assert "conv2d" in model.graph_text("REFERENCE") and "enter(" in model.graph_text("LOWERED")
    assert "dequantize" not in model.graph_text("LOWERED")


def test_loading_imports_no_tools(saved):
    """A model runs without the profiler, the passes of a compilation, or what prints tables."""
    code = (f"import sys, fxq; fxq.load({str(saved[0])!r}); "
            "print([m for m in sys.modules if m.startswith(('fxq.profiler.', 'tabulate', "
            "'fxq.compiler.pipeline', 'fxq.passes.convert'))])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_verify_off_runs_nothing(saved, ways, monkeypatch):
    """No inference at all: the file is linked, and that is it."""
    monkeypatch.setattr(loading, "check_of", lambda *_: pytest.fail("it ran the model"))
    assert torch.equal(fxq.load(saved[0], verify=False)(X), saved[1])
    assert ways == [False]


def test_a_layer_that_stays_in_float_is_loaded_too(tmp_path):
    """Torch runs between two programs, and the whole is held to the record."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Softmax(1), nn.Conv2d(8, 4, 3)).eval()
    compiled = fxq.compile(net, target="native", example_inputs=(X,), calibration_data=[X],
                           calibrator="minmax", verify=False)
    compiled.save(tmp_path / "mixed.fxq")
    assert torch.equal(fxq.load(tmp_path / "mixed.fxq")(X), compiled(X))
