"""What models take and return beside tensors: the compiled model, and its file, do the same."""

from collections import defaultdict
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

import fxq
from fxq.cli.artifact import verify_artifact
from fxq.frontend.nests import flatten
from tests.helpers import compiled
from tests.nets import Fn, ramp

X = ramp(2, 3, 8, 8)


@dataclass(frozen=True)
class Record:
    y: torch.Tensor
    count: int = field(init=False, default=4)


def grouped(s, x):
    made = defaultdict(list)
    made["y"].append(s.conv(x))
    return made


CASES = {
    "shape in a list": lambda s, x: {"y": s.conv(x), "aux": [x + 1, x.shape[0]]},
    "size": lambda s, x: (s.conv(x), x.shape, x.dim()),
    "only a number": lambda s, x: x.shape[0],
    "max": lambda s, x: s.conv(x).max(1),
    "max in the middle": lambda s, x: s.conv(x).max(1).values + 1,
    "topk": lambda s, x: {"top": s.conv(x).topk(2, 1), "x": x},
    "chunk": lambda s, x: [s.conv(x).chunk(2, 1), None, "name"],
    "unbind": lambda s, x: s.conv(x).unbind(1),
    "constant tensor": lambda s, x: (s.conv(x), torch.ones(3)),
    "repeated": lambda s, x: [s.conv(x), x, x],
    "dataclass": lambda s, x: Record(s.conv(x)),
    "defaultdict": grouped,
}


def shown(value):
    """The nest, and shapes or values of its leaves."""
    leaves, nest = flatten(value)
    return nest, [(v.shape, v.dtype) if isinstance(v, torch.Tensor) else v for v in leaves]


@pytest.mark.parametrize("function", CASES.values(), ids=CASES)
def test_outputs_are_nested_as_the_models(function, tmp_path):
    """Also from a file, and for another batch size."""
    net = Fn(function, conv=nn.Conv2d(3, 4, 3, padding=1)).eval()
    model = compiled(net, X)
    model.save(tmp_path / "m.fxq")
    loaded = fxq.load(tmp_path / "m.fxq", runtime="python")
    assert "bit for bit" in verify_artifact(tmp_path / "m.fxq", None)
    for x in (X, ramp(3, 3, 8, 8)):
        assert type(model(x)) is type(net(x))
        assert shown(model(x)) == shown(net(x))
        assert shown(loaded(x))[1] == shown(net(x))[1]


def test_parts_that_depend_on_the_batch_are_counted():
    """Another number of parts is refused, where a compiled model would drop some silently."""
    model = compiled(Fn(lambda s, x: torch.relu(x).unbind(0)), X)
    assert len(model(X)) == 2
    with pytest.raises(fxq.ConfigError, match="3 parts in this call, and had 2"):
        model(ramp(3, 3, 8, 8))


def test_what_a_forward_keeps_for_later_is_allowed():
    """A value that is stored and never read changes nothing; the user's model is untouched."""
    class Storing(nn.Module):
        def forward(self, x):
            self.last = torch.relu(x)
            return self.last + 1

    net = Storing().eval()
    assert torch.equal(compiled(net, X, scheme="fp32")(X), net(X))


def test_a_forward_of_ones_own_on_one_instance_is_used():
    """`layer.forward = ...` replaces what the class computes."""
    layer = nn.Conv2d(3, 4, 1)
    layer.forward = torch.relu
    net = nn.Sequential(layer, nn.Conv2d(3, 2, 1)).eval()
    assert fxq.sqnr(net(X), compiled(net, X)(X)) > 20


def test_example_inputs_that_a_model_writes_into_stay_as_they_are():
    """Neither the check after a pass nor the user sees the change."""
    x = X.clone()
    compiled(Fn(lambda s, x: s.conv(x.mul_(2)), conv=nn.Conv2d(3, 4, 1)), x)
    assert torch.equal(x, X)


@pytest.mark.parametrize("indices", [[[1, 2, 3], [0, 4, 2]], [[3, 3], [3, 3]]])
def test_a_model_of_indices_is_saved_with_a_check_that_it_accepts(indices, tmp_path):
    """The recorded inputs are in the range of the example's; the same model gives the same bytes."""
    x, net = torch.tensor(indices), nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 3)).eval()
    for name in ("a.fxq", "b.fxq"):
        compiled(net, x).save(tmp_path / name)
    fxq.load(tmp_path / "a.fxq", runtime="python").save(tmp_path / "c.fxq")
    first, *others = [(tmp_path / f"{n}.fxq").read_bytes() for n in "abc"]
    assert others == [first, first]
    assert "bit for bit" in verify_artifact(tmp_path / "a.fxq", None)


def test_a_file_that_could_not_be_read_again_is_not_written(tmp_path):
    """A size that depends on values has no shape rule."""
    model = compiled(Fn(lambda s, x: torch.where(x > 0)), X)
    with pytest.raises(fxq.ArtifactError, match="cannot be kept in a file"):
        model.save(tmp_path / "m.fxq")
    assert not (tmp_path / "m.fxq").exists()
