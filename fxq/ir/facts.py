"""What every node of every graph knows about itself, kept in `node.meta`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import Node

from fxq.quantization.formats import QParams

_KEY, _QPARAMS, _PLACED = "fxq.info", "fxq.qparams", "fxq.placed"


@dataclass(frozen=True)
class Info:
    """Shape, dtype and origin of a node's value.

    `shape` is None for values that are no tensor. `path` is the module that the user's code
    called (or whose forward ran), `source` the user's own line, `value` the canonical key of
    the value in the NORMAL graph, under which its statistics are kept.
    """

    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    path: str = ""
    source: str = ""
    value: str = ""
    is_module: bool = False  # the node was a module's call, so that its path names it

    @property
    def is_float_tensor(self) -> bool:
        return self.shape is not None and self.dtype is not None and self.dtype.is_floating_point


def info(node: Node) -> Info:
    """The node's record; an empty one for nodes made outside of fxq."""
    known = node.meta.get(_KEY)
    return known if isinstance(known, Info) else Info()


def set_info(node: Node, value: Info) -> None:
    node.meta[_KEY] = value


def fused_info(first: Node, last: Node) -> Info:
    """The record of a fused node: the origin of its first operator, the value of its last."""
    return replace(info(first), shape=info(last).shape, dtype=info(last).dtype,
                   value=info(last).value)


def qparams(node: Node) -> QParams | None:
    """Scale and zero point of a node whose value is an integer tensor."""
    known = node.meta.get(_QPARAMS)
    return known if isinstance(known, QParams) else None


def set_qparams(node: Node, value: QParams | None) -> None:
    node.meta[_QPARAMS] = value


def place_on_integers(node: Node) -> None:
    """Record that a float operator of a REFERENCE graph stands for one on integers."""
    node.meta[_PLACED] = True


def is_on_integers(node: Node) -> bool:
    """The operator was placed on integers (and is not a float one between two of them)."""
    return bool(node.meta.get(_PLACED, False))


def tensor_inputs(node: Node) -> list[Node]:
    """The nodes among the operands, lists of operands included, in order."""
    found: list[Node] = []

    def visit(value: Any) -> None:
        if isinstance(value, Node):
            found.append(value)
        elif isinstance(value, list | tuple):
            for item in value:
                visit(item)

    visit(node.args)
    return found
