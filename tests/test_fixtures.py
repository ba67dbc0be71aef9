"""Files that were written before the tree was laid out in rooms still give the same bits.

Written by fxq at commit 3780857 from seeded nets with `lively` batch norms (tests/nets.py), and
calibrated on INPUT, its mirror image, and half of it upside down: a depthwise net, a squeeze-and-
excite gate in front of a residual block, and two branches that a cat joins, in W4A8. The outputs
beside them are what that commit gave for INPUT; those of the net in W4A8 are of the integer
arithmetic that `reference` computes by since then (docs/decisions/0014-integer-arithmetic.md).
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fxq
from fxq.artifact.container import unpack
from tests.nets import ramp

FIXTURES = Path(__file__).parent / "fixtures"
INPUT = ramp(2, 3, 12, 12, low=-2.0, high=2.0)
NAMES = ("depthwise_fbgemm", "gated_x86", "joined_reference_w4")


@pytest.mark.parametrize("name", NAMES)
def test_earlier_files_give_the_same_bits(name):
    """A file of an earlier version gives, in today's code, the outputs that it gave then."""
    expected = load_file(FIXTURES / f"{name}.safetensors")["output"]
    loaded = fxq.load(FIXTURES / f"{name}.fxq", runtime="python")
    assert torch.equal(loaded(INPUT), expected)
    assert not torch.equal(loaded(INPUT.flip(2)), expected)  # the outputs do depend on the input


@pytest.mark.parametrize("name", NAMES)
def test_earlier_files_keep_their_graph(name, tmp_path):
    """Saved again, an earlier file holds the same graph and weights, byte for byte."""
    fxq.load(FIXTURES / f"{name}.fxq", runtime="python").save(tmp_path / "again.fxq")
    for member in ("graph.json", "weights.safetensors"):
        assert _member(tmp_path / "again.fxq", member) == _member(FIXTURES / f"{name}.fxq", member)


def _member(path: Path, name: str) -> bytes:
    return unpack(path.read_bytes(), "")[name]
