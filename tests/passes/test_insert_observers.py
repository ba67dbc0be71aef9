"""insert-observers: what some kernel may want is watched, once, and passed on unchanged."""

import torch

from fxq.ir.printer import format_graph
from fxq.passes.insert_observers import InsertObservers
from tests.helpers import run, statistics_of, upto
from tests.nets import Classifier, lively, ramp

X = ramp(2, 3, 16, 16)


def test_golden_classifier(golden):
    """Inputs, computed values and what layers read are watched; moved values are not."""
    net = lively(Classifier())
    module, _ = upto("insert-observers", net, X)
    golden.check(format_graph(module))
    assert torch.allclose(run(module, X), net(X), atol=1e-5)


def test_second_run_changes_nothing():
    """Values that are observed already get no second observer."""
    module, _ = upto("insert-observers", lively(Classifier()), X)
    text = format_graph(module)
    result = InsertObservers().run(module, None)
    assert result.rewrites == ()
    assert format_graph(module) == text


def test_observers_see_what_passes():
    """The statistics of the input are those of the tensor."""
    module, _ = upto("insert-observers", lively(Classifier()), X)
    run(module, X)
    seen = statistics_of(module)["input0"]
    assert (seen.minimum, seen.maximum) == (X.min().item(), X.max().item())
    assert seen.counts.sum() == X.numel() * seen.batches
