"""fold-qdq: integers pass through what only moves them; other formats stay apart."""

import torch
import torch.nn.functional as F
from torch import nn

from fxq.ir.printer import format_graph
from tests.helpers import finished, ops, run, without_scales
from tests.nets import Classifier, Fn, lively, ramp

X = ramp(2, 3, 16, 16)


def test_golden_classifier(golden):
    """Pooling and flattening read and give integers."""
    net = lively(Classifier())
    before, _ = finished("fold-clamp", net, X)
    module, _ = finished("fold-qdq", net, X)
    golden.check(without_scales(format_graph(module)))
    assert torch.allclose(run(before, X), run(module, X), atol=0.02)  # one step of one average


def test_selecting_operators_pass_bit_for_bit():
    """Max pooling, slicing and permuting commute with rounding."""
    net = Fn(lambda s, x: F.max_pool2d(s.conv(x), 2)[:, 1:].permute(0, 2, 3, 1),
             conv=nn.Conv2d(3, 4, 3))
    before, _ = finished("fold-clamp", net, X)
    after, _ = finished("fold-qdq", net, X)
    assert "max_pool2d_on_integers" in ops(after)
    assert torch.equal(run(before, X), run(after, X))


def test_different_formats_stay():
    """Two values of different range, added, each keep their own dequantize."""
    net = Fn(lambda s, x: s.a(x) + 100 * s.b(x), a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 3, 1))
    module, _ = finished("fold-qdq", net, X)
    assert ops(module).count("dequantize") >= 2


def test_shared_cat_passes_integers_through():
    """The inputs of a cat share one format (T49)."""
    net = Fn(lambda s, x: torch.cat([s.a(x), s.b(x)], 1), a=nn.Conv2d(3, 3, 1),
             b=nn.Conv2d(3, 3, 1))
    before, _ = finished("fold-clamp", net, X)
    module, _ = finished("fold-qdq", net, X)
    assert "cat_on_integers" in ops(module)
    assert torch.equal(run(before, X), run(module, X))
