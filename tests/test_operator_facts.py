"""What fxq knows of an operator stands in its row of `ir/ops.py`, and nowhere else."""

import ast
from pathlib import Path

import pytest

from fxq.ir.ops import OPS

ROOT = Path(__file__).parent.parent
# Tables by operator: argument kinds and shape rules of files, kernels, targets, and spellings.
TABLES = {"ir/ops.py", "ir/op_functions.py", "artifact/signatures.py", "artifact/meta_shapes.py",
          "kernels/calls.py", "frontend/spellings.py"}
FILES = [p for folder in ("fxq", "passes") for p in sorted((ROOT / folder).rglob("*.py"))
         if "/".join(p.parts[-2:]) not in TABLES]
FAMILIES = ("conv", "pool", "linear", "norm", "relu")


def is_name(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in OPS


def private_facts(source):
    """Lines with a collection of operator names, or a test for a part of a name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Set | ast.Tuple | ast.List) and (
                len(node.elts) > 1 and all(map(is_name, node.elts))):
            found.append(node.lineno)
        parts = []
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            parts = [node.left]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            parts = node.args if node.func.attr in ("startswith", "endswith") else []
        found += [p.lineno for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)
                  and any(family in p.value for family in FAMILIES)]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_private_set_of_operators(path):
    """No file keeps a set of operators of its own, or looks into their names."""
    assert not private_facts(path.read_text())


def test_a_private_set_is_found():
    """The failing twin."""
    assert private_facts('LAYERS = {"conv2d", "linear"}')
    assert private_facts('x = "pool" in op.name')
    assert private_facts('y = name.startswith("conv_transpose")')
    assert not private_facts('z = name == "linear"')


def test_fused_operators_keep_the_facts_of_what_computes():
    """`conv2d_relu` has the rank of `conv2d`, and fuses with nothing more."""
    for op in (op for op in OPS.values() if op.base):
        base = OPS[op.base]
        assert (op.rank, op.transposed, op.kind, op.fresh) == (
            base.rank, base.transposed, base.kind, base.fresh)
        assert not op.absorbs
