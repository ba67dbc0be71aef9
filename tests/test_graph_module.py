"""Copies of graphs."""

from fxq.ir.facts import info
from fxq.ir.graph_module import copy_of
from tests.helpers import prepared
from tests.nets import Classifier, ramp


def test_a_copy_has_the_facts_of_every_node():
    """The copy of a graph has the same facts on each node, its output node included."""
    module, _ = prepared(Classifier(), ramp(1, 3, 16, 16))
    pairs = list(zip(module.graph.nodes, copy_of(module).graph.nodes, strict=True))
    assert all(info(old) == info(new) for old, new in pairs)
    assert info(pairs[-1][0]).source and pairs[-1][0].op == "output"
