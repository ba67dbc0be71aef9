"""The table: from operators of a REFERENCE graph to the ONNX nodes that say the same.

Rows stand under the names of the operator table, or of the allow-list for what has no row there.
Operators on integers have the row of their float form, between a DequantizeLinear and a
QuantizeLinear of one format: readers of such files know that pattern, and move the integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.fx import Node

from fxq.artifact.allow_list import NAMES
from fxq.export.functions import FUNCTIONS, plain
from fxq.export.layers import LAYERS
from fxq.export.moves import MOVES
from fxq.export.site import NoRow, Row, Site, fixed
from fxq.ir.facts import info
from fxq.ir.integers import float_op_of
from fxq.ir.ops import Op, attributes, base_of, op_of


def _einsum(site: Site) -> str:
    equation = site.node.args[0]
    terms = site.operands[1] if isinstance(site.operands[1], list) else site.operands[1:]
    return site.call("Einsum", *terms, equation=str(equation))


def _chunk(site: Site) -> Any:
    """As many parts as torch makes; the last one is smaller where they cannot be equal."""
    said = dict(zip(("chunks", "dim"), site.node.args[1:], strict=False)) | site.node.kwargs
    count, dim = said["chunks"], said.get("dim", 0)
    axis = site.axis(fixed(dim, "a dimension"))
    size = site.input_shape[axis]
    each = -(-size // int(fixed(count, "a number of parts")))
    lengths = [min(each, size - at) for at in range(0, size, each)]
    return site.draft.calls_to("Split", [site.x, site.ints(lengths)], len(lengths), axis=axis)


def _arithmetic(op: str) -> Row:
    """On sizes, which are never negative: ONNX divides towards zero."""
    def row(site: Site) -> str:
        if info(site.node).shape is not None:
            return site.call(op, *site.operands)
        arguments: Sequence[Any] = site.node.args
        return site.call(op, *(site.names[a] if isinstance(a, Node) else site.ints([a])
                               for a in arguments))
    return row


def _item(site: Site) -> Any:
    """One part of a tuple, or one size of a shape."""
    whole, index = site.names[site.node.args[0]], site.node.args[1]  # type: ignore[index]
    if type(index) is not int:
        raise NoRow("an index that is computed, or a slice")
    if isinstance(whole, tuple):
        return whole[index]
    if info(site.node).shape is not None:
        raise NoRow("an index of a tensor")
    return site.call("Gather", whole, site.ints([index]))


_FLOAT = (("exp", "Exp"), ("log", "Log"), ("sqrt", "Sqrt"), ("reciprocal", "Reciprocal"),
          ("floor", "Floor"), ("ceil", "Ceil"), ("sign", "Sign"), ("abs", "Abs"))

ROWS: Mapping[str, Row] = {
    **LAYERS, **FUNCTIONS, **MOVES,
    **{f"torch.{name}": plain(op) for name, op in (
        *_FLOAT, ("maximum", "Max"), ("minimum", "Min"))},
    **{name: plain(op) for name, op in _FLOAT},
    **{f"operator.{name}": _arithmetic(op) for name, op in (
        ("add", "Add"), ("sub", "Sub"), ("mul", "Mul"), ("floordiv", "Div"))},
    "torch.chunk": _chunk, "chunk": _chunk, "torch.einsum": _einsum, "operator.getitem": _item}


def name_of(node: Node) -> str:
    """The name under which a node's row would stand."""
    op = op_of(node) or float_op_of(node)
    if op:
        return op.base or op.name
    known = node.target if node.op == "call_method" else NAMES.get(node.target)
    return str(known or getattr(node.target, "__name__", node.target))


def apply_row(site: Site) -> Any:
    """Write one operator; raises NoRow where the table, or ONNX, cannot say it."""
    op = op_of(site.node)
    name = name_of(site.node)
    if name not in ROWS:
        raise NoRow("there is no row for it")
    if op is None or not op.base:
        return ROWS[name](site)
    return _fused(site, op)


def _fused(site: Site, op: Op) -> str:
    """The operator that computes, then what it absorbed: a sum, an activation, or both."""
    base, known = base_of(op)[0], attributes(site.node)
    count = len(base.operands)
    own = {k: v for k, v in known.items() if k in base.attributes}
    rest = {k: v for k, v in known.items() if k not in base.attributes}
    x, more = ROWS[base.name](site.then(site.operands[0], own, *site.operands[1:count])), (
        site.operands[count:])
    for activation in op.activation.split("_"):
        joins = more if activation == "add" else ()
        x = ROWS[activation](site.then(x, rest, *joins))
    return x
