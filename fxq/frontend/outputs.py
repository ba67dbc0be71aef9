"""The outputs of a traced graph: tensors and numbers, whatever the model nests them in.

A trace sees `x.max(1)` or `x.split(2)` as one value. Its parts become outputs of their own, so
that passes meet tensors only; sizes and other numbers that a call computes stay outputs as
they are.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.errors import TraceError
from fxq.frontend.convention import PLACE
from fxq.frontend.nests import LEAF, Nest, Opened, open_container, parts
from fxq.frontend.trace import Traced
from fxq.ir.facts import Info, info, set_info

_NUMBERS = (int, float, complex, str, torch.dtype, torch.device, type(None))


def settle_outputs(traced: Traced, values: Sequence[Any]) -> tuple[Traced, list[Any]]:
    """The traced model with one output per tensor, and what these are for the example inputs.

    `values` are what the graph's outputs are now. Raises TraceError, with the user's line, for
    an output that is neither tensor nor number.
    """
    returned = next(n for n in traced.graph_module.graph.nodes if n.op == "output")
    found = [_opened(node, value, returned) for node, value in
             zip(returned.args[0], values, strict=True)]
    returned.args = (tuple(node for nodes, _, _ in found for node in nodes),)
    nests, counts = iter([n for _, _, n in found]), iter([len(nodes) for nodes, _, _ in found])
    fixed: list[Any] = []
    call = traced.convention
    for value in call.fixed_outputs:
        fixed += [PLACE] * next(counts) if value is PLACE else [value]
    leaves = iter([next(nests) if v is PLACE else LEAF for v in call.fixed_outputs])
    settled = replace(traced, convention=replace(
        call, fixed_outputs=tuple(fixed), rebuild_output=_grafted(call.rebuild_output, leaves)))
    traced.graph_module.recompile()
    return settled, [value for _, part, _ in found for value in part]


def _grafted(nest: Nest, leaves: Any) -> Nest:
    """The nest with each of its leaves replaced by another nest."""
    if nest.kind == "leaf":
        grafted: Nest = next(leaves)
        return grafted
    return replace(nest, parts=tuple(_grafted(part, leaves) for part in nest.parts))


def _opened(node: Any, value: Any, returned: Node) -> tuple[list[Any], list[Any], Nest]:
    """Nodes and values of the tensors and numbers in one output, and how they are nested."""
    if isinstance(value, Tensor) or _is_number(value):
        return [node], [value], LEAF
    opened = open_container(value)
    if opened is None:
        raise TraceError(f"the model returns a {type(value).__name__}", where=info(node).source,
                         why="a compiled model returns tensors, and numbers computed from shapes",
                         fix="return the tensor, and convert it outside of the model")
    found = [_opened(child, part, returned) for child, part in
             zip(_children(node, opened, returned), opened.values, strict=True)]
    return ([n for nodes, _, _ in found for n in nodes], [v for _, part, _ in found for v in part],
            opened.nest(nest for _, _, nest in found))


def _is_number(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_number(v) for v in value)
    return isinstance(value, _NUMBERS)


def _children(node: Node, opened: Opened, returned: Node) -> list[Node]:
    """A node for each part; sequences are checked for their number of parts first."""
    graph, made = node.graph, []
    with graph.inserting_before(returned):
        if opened.kind in ("list", "tuple"):
            node = _like(node, graph.call_function(parts, (node, len(opened.values))))
        fields = opened.kind == "fields"
        keys = opened.keys if fields or opened.kind == "dict" else range(len(opened.values))
        for key, value in zip(keys, opened.values, strict=True):
            child = _like(node, graph.call_function(getattr if fields else operator.getitem,
                                                    (node, key)))
            if isinstance(value, Tensor):
                set_info(child, replace(info(child), shape=tuple(value.shape), dtype=value.dtype))
            made.append(child)
    return made


def _like(node: Node, made: Node) -> Node:
    """The new node, with the origin of the one that it opens."""
    set_info(made, Info(path=info(node).path, source=info(node).source))
    return made


