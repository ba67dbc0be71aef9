"""What lives during and after a compilation, counted in bytes of tensors, not in resident pages."""

import gc
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import fxq
from fxq.compiler import build
from fxq.compiler.manager import Manager
from fxq.compiler.prepare import Prepared
from fxq.ir.sizes import model_bytes
from fxq.quantization.weights import rows, scaled
from tests.nets import lively, ramp

X = ramp(1, 64, 4, 4)
ACTIVATIONS = 64 * 4 * 4 * 4 * 12  # of two blocks: each value in float, and its integers
FLOAT_PASSES = ("normalize", "fold-pad", "fold-batch-norm", "batch-norm-to-affine",
                "fuse-activation", "insert-observers")


def heavy():
    """Weights of 0.6 MB on activations of 4 kB."""
    layers = [nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64),
                            nn.ReLU()) for _ in range(4)]
    return lively(nn.Sequential(*layers))


def living():
    """Bytes of all dense tensors that Python knows of, unreachable ones too."""
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)
               and o.layout is torch.strided]
    return sum({s.data_ptr(): s.nbytes() for t in tensors
                for s in [t.untyped_storage()]}.values())


@contextmanager
def uncollected():
    """Python's collector takes nothing away: what is only reachable from cycles counts."""
    gc.collect()
    gc.disable()
    try:
        yield living()
    finally:
        gc.enable()


def compiled(model):
    seen = fxq.calibrate(fxq.prepare(model, example_inputs=(X,), verify=False), [X])
    return lambda: fxq.compile(model, example_inputs=(X,), statistics=seen, runtime="python")


@pytest.fixture
def census(monkeypatch):
    """Copies of the float weights that live after each pass of a compilation."""
    def run():
        model, found = heavy(), {}
        start = compiled(model)
        with uncollected() as before:
            own = Manager._run_one

            def counted(manager, module, item):
                own(manager, module, item)
                found[item.name] = (living() - before - ACTIVATIONS) / model_bytes(model)

            monkeypatch.setattr(Manager, "_run_one", counted)
            start()
        return found

    return run


def test_a_compilation_holds_two_copies_of_the_weights(census):
    """The private copy and the folded weights; once they are integers, the copy is gone."""
    found = census()
    assert max(found.values()) <= 2.2
    assert max(v for name, v in found.items() if name not in FLOAT_PASSES) <= 1.5


def test_a_copy_that_stays_is_noticed(census, monkeypatch):
    """With the private copy kept, what lives is above the bound of the integer passes."""
    monkeypatch.setattr(Prepared, "let_copy_go", lambda self, source: None)
    assert census()["lower"] > 1.5


def held_by(start):
    """What a compiled model holds when everything else is gone, in copies of its float weights."""
    gc.collect()
    before = living()
    model = start()
    gc.collect()
    return (living() - before) / model.report.float_bytes


def test_a_compiled_model_holds_no_float_weights():
    """Integers, scales and biases are all that it keeps: a quarter."""
    assert held_by(compiled(heavy())) <= 0.3


def test_facts_that_keep_weights_are_noticed(monkeypatch):
    """Nodes that went on knowing their float weights would keep a whole copy."""
    monkeypatch.setattr(build, "forget_tensors", lambda graph: None)
    assert held_by(compiled(heavy())) > 1


def test_compiling_writes_nothing_into_the_model():
    """The model is read in its copy's place: torch counts every write into a tensor."""
    model = heavy()
    writes = {name: t._version for name, t in model.state_dict(keep_vars=True).items()}
    compiled(model)()
    assert writes == {name: t._version for name, t in model.state_dict(keep_vars=True).items()}


def test_a_model_that_trains_on_changes_nothing_that_was_prepared():
    """What is prepared is a copy, and what is compiled is of its own memory."""
    model, x = heavy(), torch.rand(1, 64, 4, 4)
    prepared, direct = fxq.prepare(model, example_inputs=(X,)), compiled(model)()
    fxq.calibrate(prepared, [X])
    expected = direct(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert torch.equal(direct(x), expected)
    assert torch.equal(fxq.convert(prepared, runtime="python")(x), expected)


def test_rows_make_no_difference():
    """Scaling by slices gives the bits of scaling at once, however the rows are cut."""
    weight, factor = torch.randn(300, 1024), torch.randn(300, 1)
    assert [len(weight[part]) for part in rows(weight)] == [256, 44]
    assert torch.equal(scaled(weight, factor), (weight.double() * factor).float())
