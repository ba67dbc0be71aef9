"""From a REFERENCE graph to a draft, node by node."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.fx import Node

from fxq.errors import UnsupportedOpError
from fxq.export.draft import Call, Draft
from fxq.export.integers import FORMATS, dequantized, is_format, quantized
from fxq.export.ports import ports
from fxq.export.rows import apply_row, name_of
from fxq.export.site import NoRow, Site
from fxq.ir.facts import info, qparams
from fxq.ir.integers import dequantize_weight, float_op_of
from fxq.ir.ops import attributes, op_of
from fxq.ir.rewriter import constant_of, label

_MOST = 12  # operators that an error lists
_STUMBLES = (TypeError, ValueError, LookupError)  # of rows over arguments that they do not expect


def draft_of(module: fx.GraphModule, names: tuple[str, ...]) -> Draft:
    """The graph as ONNX's calls and constants; `names` are those of its inputs.

    Raises UnsupportedOpError with every operator that the table cannot say.
    """
    draft = Draft()
    returned: Any = next(n for n in module.graph.nodes if n.op == "output").args[0]
    taken = [draft.name(name) for name in names]
    given = [draft.name(f"output{i}") for i in range(len(returned))]
    draft.inputs, draft.outputs = ports(module, taken, given)
    walk = _Walk(draft)
    for node in module.graph.nodes:
        walk.add(node)
    walk.refuse()
    draft.calls += [Call("Identity", (walk.names[node],), (name,), {})
                    for node, name in zip(returned, given, strict=True)]
    return draft


class _Walk:
    """The draft, and the name of what each node gives: tuples for several values."""

    def __init__(self, draft: Draft) -> None:
        self.draft, self.inputs = draft, iter(draft.inputs)
        self.names: dict[Node, Any] = {}
        self.refused: list[tuple[Node, str]] = []

    def add(self, node: Node) -> None:
        self.draft.place = info(node).path
        if node.op == "placeholder":
            self.names[node] = next(self.inputs).name
        elif node.op == "get_attr":
            self._constant(node)
        elif node.op != "output":
            try:
                self.names[node] = self._call(node)
            except (NoRow, *_STUMBLES) as reason:
                self.refused.append((node, str(reason)))
                self.names[node] = ""

    def _constant(self, node: Node) -> None:
        """Weights that are dequantized are written there, in the type that holds them best."""
        if all(user.target is dequantize_weight for user in node.users):
            return
        tensor = constant_of(node)
        assert tensor is not None
        self.names[node] = self.draft.constant(info(node).path or str(node.target), tensor)

    def _call(self, node: Node) -> Any:
        operands = tuple(self._operand(a, node) for a in node.args)
        site = Site(self.draft, node, operands, attributes(node) if op_of(node) else {},
                    self.names)
        if is_format(node):
            return FORMATS[node.target](site)
        if float_op_of(node) is not None:
            return self._on_integers(site)
        return apply_row(site)

    def _on_integers(self, site: Site) -> str:
        """The float operator between a dequantize and a quantize of the one format."""
        op, format_ = float_op_of(site.node), qparams(site.node)
        assert op is not None and format_ is not None
        known = {k: v for k, v in site.node.kwargs.items() if k != "zero_point"}
        operands = tuple(_each(o, lambda x: dequantized(self.draft, x, format_))
                         for o in site.operands)
        inner = Site(self.draft, site.node, operands, {**op.attributes, **known}, self.names)
        return quantized(self.draft, apply_row(inner), format_)

    def _operand(self, value: Any, node: Node) -> Any:
        if isinstance(value, Node):
            return self.names.get(value, "")
        if isinstance(value, list | tuple):
            return [self._operand(v, node) for v in value]
        if isinstance(value, int | float) and not isinstance(value, bool) and (
                info(node).is_float_tensor):
            return self.draft.small(float(value), info(node).dtype or torch.float32)
        return value

    def refuse(self) -> None:
        """Raise for everything that could not be written, all of it at once."""
        if not self.refused:
            return
        rows = [f"{label(node)} ({name_of(node)}): {reason}" for node, reason in self.refused]
        more = [f"and {len(rows) - _MOST} more"] if len(rows) > _MOST else []
        raise UnsupportedOpError(
            f"{len(rows)} operators cannot be written as ONNX",
            where=info(self.refused[0][0]).source, why="\n".join([*rows[:_MOST], *more]),
            fix="write them with operators that fxq/export/rows.py lists")


def _each(operand: Any, change: Any) -> Any:
    if isinstance(operand, list):
        return [change(x) for x in operand]
    return change(operand) if isinstance(operand, str) else operand
