"""fxq.lock: the same build has the same lock; another says where it parts."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import fxq
from fxq.compiler.lock import ORDER, first_difference, read_lock
from fxq.passes.correct_bias import CorrectBias
from tests.helpers import compiled
from tests.nets import Classifier, lively, ramp

X = ramp(2, 3, 16, 16)


def build(lock, net=None, **options):
    torch.manual_seed(0)
    return compiled(net or lively(Classifier()), X, lock=lock, **options)


def test_the_same_build_passes(tmp_path):
    """A second build is held to the first one's lock, and passes; the lock is plain JSON."""
    build(tmp_path / "fxq.lock")
    before = (tmp_path / "fxq.lock").read_bytes()
    build(tmp_path / "fxq.lock")
    assert (tmp_path / "fxq.lock").read_bytes() == before
    assert set(json.loads(before)) == set(ORDER) and str(tmp_path).encode() not in before


def other_weights():
    net = lively(Classifier())
    with torch.no_grad():
        net.head.weight[0, 0] += 1e-3
    return net


@pytest.mark.parametrize("options, text", [
    ({"net": other_weights}, "weights differs"), ({"net": lambda: lively(nn.Sequential(
        nn.Conv2d(3, 4, 1)))}, "model differs"),
    ({"calibration": [X, X]}, "1 batches were 2"), ({"calibration": [2 * X]}, "batch 0 of the data"),
    ({"calibrator": "mse"}, "scheme differs"), ({"seed": 7}, "seed differs: 0 was 7"),
    ({"target": "reference"}, "target differs: fbgemm was reference")])
def test_another_build_says_where_it_parts(tmp_path, options, text):
    """The first difference is the cause."""
    torch.manual_seed(0)
    build(tmp_path / "fxq.lock")
    torch.manual_seed(0)
    made = {k: v() if k == "net" else v for k, v in options.items()}
    with pytest.raises(fxq.VerificationError, match=text):
        build(tmp_path / "fxq.lock", **made)


def test_a_pass_that_changed_is_named(tmp_path, monkeypatch):
    """Another version of one pass: its name is in the error."""
    build(tmp_path / "fxq.lock", calibrator="mse")
    monkeypatch.setattr(CorrectBias, "run", lambda self, module, context: __import__(
        "fxq.ir.rewriter").ir.rewriter.PassResult())
    net = lively(Classifier())
    first = read_lock(tmp_path / "fxq.lock")
    scheme = replace(fxq.quantization.schemes.SCHEMES["int8_static"])
    assert scheme.correct_bias and first["passes"][0][0] == "normalize"
    with pytest.raises(fxq.VerificationError, match="pass correct-bias is the first"):
        build(tmp_path / "fxq.lock", net=None if net else net, calibrator="mse")


def test_equal_locks_have_no_difference(tmp_path):
    """The comparison itself: equal is empty."""
    build(tmp_path / "a")
    assert first_difference(read_lock(tmp_path / "a"), read_lock(tmp_path / "a")) == ""


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fxq": 1}'])
def test_other_files_are_no_locks(tmp_path, text):
    """A file that is none is an ArtifactError."""
    (tmp_path / "x").write_text(text)
    with pytest.raises(fxq.ArtifactError, match="no lock"):
        build(tmp_path / "x")
