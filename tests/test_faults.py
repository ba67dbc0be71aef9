"""Faults on purpose: whatever breaks, the user's model, torch and old files stay as they were."""

import hashlib
import threading

import pytest
import torch

import fxq
from fxq.compiler.pipeline import FINISH, HALF, PREPARE
from tests.helpers import compiled
from tests.nets import Classifier, lively, ramp
from tests.test_calibration import resident

X = ramp(2, 3, 16, 16)
PASSES = {type(p): p for p in (*PREPARE, *FINISH, *HALF)}


def state_of(model):
    content = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        content.update(name.encode() + tensor.numpy().tobytes())
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return (content.hexdigest(), hooks, [m.training for m in model.modules()],
            torch.backends.quantized.engine, torch.get_rng_state().sum().item(),
            torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads())


@pytest.mark.parametrize("fault", [RuntimeError("boom"), KeyboardInterrupt(), MemoryError()],
                         ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("kind", PASSES, ids=lambda k: k.name)
def test_a_fault_in_each_pass(kind, fault, monkeypatch, tmp_path):
    """An exception, Ctrl-C or no memory in the middle of any pass (T79)."""
    monkeypatch.setenv("FXQ_DUMP", str(tmp_path))
    net = lively(Classifier())
    scheme = {"scheme": "fp16", "target": "reference"} if kind.name == "cast-half" else {}
    before, real = state_of(net), kind.run

    def broken(self, module, context):
        real(self, module, context)
        raise fault

    monkeypatch.setattr(kind, "run", broken)
    with pytest.raises((fxq.VerificationError, KeyboardInterrupt, MemoryError)):
        compiled(net, X, **scheme)
    assert state_of(net) == before
    monkeypatch.undo()
    assert compiled(net, X, **scheme)(X).shape == (2, 5)


@pytest.mark.parametrize("fault", [RuntimeError("disk"), KeyboardInterrupt()],
                         ids=lambda f: type(f).__name__)
def test_a_fault_in_the_data(fault):
    """A loader that fails, or Ctrl-C in calibration: calibrate again, and all is well."""
    def loader():
        yield X
        raise fault

    net = lively(Classifier())
    before = state_of(net)
    prepared = fxq.prepare(net, example_inputs=(X,))
    with pytest.raises(type(fault)):
        fxq.calibrate(prepared, loader())
    assert state_of(net) == before
    fxq.calibrate(prepared, [X])
    assert fxq.sqnr(net(X), fxq.convert(prepared, runtime="python")(X)) > 20


def test_a_fault_in_training():
    """A batch that does not fit leaves a module that trains on."""
    qat = fxq.prepare_qat(lively(Classifier()), example_inputs=(X,))
    with pytest.raises(RuntimeError):
        qat(X[:, :1])
    qat(X).square().mean().backward()
    assert fxq.check_parity(qat, X).worst_step <= 1


def run_threads(model, threads, calls):
    """Outputs of all calls that differ from the first one's, and the memory that they left."""
    wanted, wrong = model(X), []

    def work():
        for _ in range(calls):
            if not torch.equal(model(X), wanted):
                wrong.append(1)

    def all_threads():
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    all_threads()
    before = resident()
    all_threads()
    return len(wrong), resident() - before


def test_threads_share_a_model():
    """Four threads, fifty calls each: the same bits."""
    assert run_threads(compiled(lively(Classifier()), X), 4, 50)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["python", "torchscript"])
def test_eight_threads_a_thousand_calls(runtime):
    """Identical outputs, and no growth of memory beyond what allocators keep (8 MB)."""
    wrong, growth = run_threads(compiled(lively(Classifier()), X, runtime=runtime), 8, 1000)
    assert wrong == 0 and growth < 8e6


def test_a_racing_model_is_caught():
    """The twin: outputs that differ between calls are counted."""
    calls = iter(range(10**6))
    assert run_threads(lambda x: x + (next(calls) > 3), 2, 10)[0] > 0
