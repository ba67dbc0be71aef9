"""The canonical text: stable, readable back, and different for every different graph."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from fxq.ir import integers
from fxq.ir.facts import info, qparams, set_info, set_qparams
from fxq.ir.ops import OPS, op_name
from fxq.ir.printer import format_graph
from tests.helpers import finished, upto
from tests.nets import Classifier, Fn, lively, ramp

X = ramp(2, 3, 16, 16)


def reference():
    return finished("fold-qdq", lively(Classifier()), X)[0]


def node_of(module, name):
    return next(n for n in module.graph.nodes if op_name(n) == name or n.target is name)


def drop_edge(module):
    node = node_of(module, "add_relu")
    node.update_arg(1, node.args[0])


def swap_arguments(module):
    node = node_of(module, "add_relu")
    node.args = (node.args[1], node.args[0])


def add_node(module):
    node = node_of(module, "linear")
    with module.graph.inserting_after(node):
        new = module.graph.call_function(OPS["relu"].call, (node,))
    set_info(new, info(node))
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)


def nudge_scale(module):
    node = node_of(module, integers.quantize)
    scale = float(np.nextafter(np.float32(node.kwargs["scale"]), np.float32(1)))
    node.update_kwarg("scale", scale)
    set_qparams(node, replace(qparams(node), scale=scale))


def change_attribute(module):
    node_of(module, "conv2d_relu").update_kwarg("padding", 0)


def change_constant(module):
    node = node_of(module, "linear")
    node.update_arg(2, None)


@pytest.mark.parametrize("mutate", [drop_edge, swap_arguments, add_node, nudge_scale,
                                    change_attribute, change_constant])
def test_every_mutation_changes_the_text(mutate):
    """An edge dropped, arguments swapped, a node added, a scale moved by one ulp: all show."""
    module = reference()
    before = format_graph(module)
    mutate(module)
    assert format_graph(module) != before


def test_scales_read_back_to_the_same_float():
    """The printed scale is the float32 itself."""
    module = reference()
    node = node_of(module, integers.quantize)
    printed = str(qparams(node)).split()[0].removeprefix("s=")
    assert np.float32(printed) == np.float32(node.kwargs["scale"])


def test_names_are_paths_and_numbers():
    """A module called twice is told apart; names of torch.fx never appear (T17)."""
    net = Fn(lambda s, x: s.conv(s.conv(x)) + x, conv=nn.Conv2d(3, 3, 1))
    module, _ = upto("normalize", net, X)
    text = format_graph(module)
    assert [line.split()[0] for line in text.splitlines()] == [
        "input0", "conv", "conv@2", "%0", "return"]


def test_comparer_fails_for_another_text(golden, tmp_path):
    """The golden fixture itself refuses what differs, and what has no file."""
    golden.path = tmp_path / "x.txt"
    golden.update = False
    with pytest.raises(AssertionError, match="no golden|relative"):
        check(golden, "a")
    (tmp_path / "x.txt").write_text("a")
    with pytest.raises(AssertionError, match="differs"):
        golden.check("b")
    golden.check("a")


def check(golden, text):
    try:
        golden.check(text)
    except ValueError as error:  # the file is outside of the repository
        raise AssertionError("no golden (relative path)") from error


def test_unused_goldens_are_found(monkeypatch, tmp_path):
    """A golden that no test reads is reported."""
    from tests import conftest

    (tmp_path / "old.txt").write_text("x")
    monkeypatch.setattr(conftest, "GOLDEN", tmp_path)
    assert conftest.unused_goldens() == [tmp_path / "old.txt"]


def test_goldens_that_a_worker_has_read_are_used(monkeypatch, tmp_path):
    """A worker of pytest-xdist hands over what its tests read; a crashed one has nothing."""
    from tests import conftest

    (tmp_path / "read.txt").write_text("x")
    monkeypatch.setattr(conftest, "GOLDEN", tmp_path)
    monkeypatch.setattr(conftest, "_used", set())
    conftest.pytest_testnodedown(SimpleNamespace(), "crashed")
    assert conftest.unused_goldens() == [tmp_path / "read.txt"]
    output = {"goldens": [str(tmp_path / "read.txt")]}
    conftest.pytest_testnodedown(SimpleNamespace(workeroutput=output), None)
    assert conftest.unused_goldens() == []
