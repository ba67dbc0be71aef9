"""The layout in which a program computes a node: images, or rows of channels (tokens)."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import fx
from torch.fx import Node

from fxq.ir import arithmetic
from fxq.ir.facts import info
from fxq.ir.rewriter import constant_of
from fxq.runtime.native.takes import measures, multiplies, takes

_LAYERS = (arithmetic.linear, arithmetic.linear_float)
# What computes each number on its own does so in any layout.
_ELEMENTWISE = (arithmetic.enter, arithmetic.leave, arithmetic.look_up, arithmetic.add,
                arithmetic.multiply)


class Layout(StrEnum):
    """What the dimensions of a node's values mean to the program that computes it."""

    TORCH = "no program computes it"
    IMAGE = "batch, channels, and up to two dimensions of space"
    ROWS = "any number of dimensions, channels last"
    MATRICES = "matrices in the last two dimensions, as the caller has them"
    TENSOR = "rows that are measured together: its input is a whole tensor"


def layouts(graph: fx.Graph) -> dict[Node, Layout]:
    """The layout of every node. Values between linear layers of tokens are rows."""
    found = {n: _alone(n) for n in graph.nodes}
    pending = [n for n in graph.nodes if n.target in _LAYERS and _is_rows(n)]
    while pending:
        node = pending.pop()
        if found[node] is Layout.ROWS:
            continue
        found[node] = Layout.ROWS
        pending += [n for n in (*node.all_input_nodes, *node.users)
                    if n.target in _ELEMENTWISE and _is_rows(n)]
    return found


def _alone(node: Node) -> Layout:
    """The layout of a node whatever its neighbours have."""
    if node.target is arithmetic.linear_dynamic and measures(node):
        return Layout.TENSOR
    if multiplies(node):
        return Layout.MATRICES
    return Layout.IMAGE if takes(node) else Layout.TORCH


def _is_rows(node: Node) -> bool:
    """Its operands agree in all dimensions but, for a layer, the last, of three or more."""
    operands = [n for n in node.all_input_nodes if constant_of(n) is None]
    shapes = {(info(n).shape or ())[:-1] for n in (node, *operands)}
    whole = {info(n).shape for n in (node, *operands)}
    types = {info(n).dtype for n in (node, *operands)}
    return (len(shapes) == 1 and len(shapes.pop()) >= 2
            and types <= {torch.uint8, torch.float32}
            and (node.target in _LAYERS or len(whole) == 1))
