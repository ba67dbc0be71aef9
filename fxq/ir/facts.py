"""What nodes know: every key that fxq keeps in `node.meta`, declared once, with its type.

A fact is read and written through its declaration only. `carried` facts pass to the node that
replaces another one; all others belong to the node for which they were set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.fx import Graph, Node

from fxq.errors import TraceError
from fxq.ir.origins import Dropout, Mark, Unfolded
from fxq.quantization.formats import QParams

T = TypeVar("T")


@dataclass(frozen=True)
class Fact(Generic[T]):
    """One thing that a node may know, under a key of its own in `node.meta`.

    `heavy` facts hold a layer's float tensors: what is built from a graph does not keep them.
    """

    key: str
    kind: type[T]
    carried: bool = False
    heavy: bool = False

    def of(self, node: Node) -> T | None:
        """The node's value, or None where it was never set."""
        value = node.meta.get(self.key)
        return value if isinstance(value, self.kind) else None

    def is_set(self, node: Node) -> bool:
        """A value was recorded, be it None."""
        return self.key in node.meta

    def set(self, node: Node, value: T | None) -> None:
        """Record a value; None forgets it."""
        node.meta[self.key] = value


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


INFO = Fact("fxq.info", Info)
FORMAT = Fact("fxq.qparams", QParams)  # of a value that is an integer tensor
PLACED = Fact("fxq.placed", bool)  # a float operator of REFERENCE that stands for an integer one
UNFOLDED = Fact("fxq.unfolded", Unfolded, heavy=True)  # the layer before it took a batch norm
DROPOUTS = Fact("fxq.dropouts", tuple, carried=True)  # what training applies to the value
GIVEN_FORMAT = Fact("fxq.given", QParams, carried=True)  # decided where the model was prepared
UNTRACEABLE = Fact("fxq.untraceable", str)  # why a module is called as it is
REPLACED = Fact("fxq.was", str)  # the name of the node that this one stands for
FLOAT_WEIGHT = Fact("fxq.float_weight", Tensor, heavy=True)  # before it was rounded
BIAS_CORRECTED = Fact("fxq.bias_corrected", bool)
EQUALIZED = Fact("fxq.equalized", bool)  # its channels were scaled for its readers' sake
ROW = Fact("fxq.row", object)  # of its target's table, as chosen: see `fxq.kernels.rows`
KERNEL = Fact("fxq.kernel", str)  # LOWERED: the canonical name of the kernel that runs
PACKED = Fact("fxq.packed", str)  # packed weights: their type and shape, as printed
PACKED_BYTES = Fact("fxq.bytes", int)  # packed weights: bytes of weight, scales and bias
PLACE = Fact("fxq.place", int)  # LOWERED: the row of the value in its graph's shape program
MACS = Fact("fxq.macs", int)  # LOWERED: multiply-accumulates of the layer behind a kernel

FACTS: tuple[Fact[Any], ...] = (
    INFO, FORMAT, PLACED, UNFOLDED, DROPOUTS, GIVEN_FORMAT, UNTRACEABLE, REPLACED, FLOAT_WEIGHT,
    BIAS_CORRECTED, EQUALIZED, ROW, KERNEL, PACKED, PACKED_BYTES, PLACE, MACS)


def carry(old: Node, new: Node) -> None:
    """Hand the carried facts of a node to the one that replaces it, where it has none."""
    for fact in FACTS:
        if fact.carried and fact.of(new) is None:
            fact.set(new, fact.of(old))


def copy_facts(old: Node, new: Node) -> None:
    """Everything that fxq knows of one node, for its twin."""
    for fact in FACTS:
        if fact.key in old.meta:
            fact.set(new, fact.of(old))


def forget_tensors(graph: Graph) -> None:
    """Let go of the float tensors of earlier stages, which only passes and training read."""
    for node in graph.nodes:
        for fact in FACTS:
            if fact.heavy:
                node.meta.pop(fact.key, None)


def info(node: Node) -> Info:
    """The node's record; an empty one for nodes made outside of fxq."""
    return INFO.of(node) or Info()


def set_info(node: Node, value: Info) -> None:
    INFO.set(node, value)


def fused_info(first: Node, last: Node) -> Info:
    """The record of a fused node: the origin of its first operator, the value of its last."""
    return replace(info(first), shape=info(last).shape, dtype=info(last).dtype,
                   value=info(last).value)


def qparams(node: Node) -> QParams | None:
    """Scale and zero point of a node whose value is an integer tensor."""
    return FORMAT.of(node)


def set_qparams(node: Node, value: QParams | None) -> None:
    FORMAT.set(node, value)


def place_on_integers(node: Node) -> None:
    """Record that a float operator of a REFERENCE graph stands for one on integers."""
    PLACED.set(node, True)


def is_on_integers(node: Node) -> bool:
    """The operator was placed on integers (and is not a float one between two of them)."""
    return PLACED.of(node) or False


def unfolded(node: Node) -> Unfolded | None:
    """What a node was before a batch norm was folded into it, or None."""
    return UNFOLDED.of(node)


def set_unfolded(node: Node, value: Unfolded | None) -> None:
    """Record what a fold took away."""
    UNFOLDED.set(node, value)


def dropouts_behind(node: Node) -> tuple[Dropout, ...]:
    """The dropouts that training applies to a node's value, in order."""
    return DROPOUTS.of(node) or ()


def remember_dropout(source: Node, dropout: Dropout) -> None:
    """Record a dropout of this value that inference does without."""
    DROPOUTS.set(source, (*dropouts_behind(source), dropout))


def move_dropouts(old: Node, new: Node) -> None:
    """What follows a value now follows its rounded form."""
    if dropouts_behind(old):
        DROPOUTS.set(new, dropouts_behind(old))
        DROPOUTS.set(old, None)


def set_mark(node: Node, mark: Mark) -> None:
    """Record the format that a value was given."""
    if mark.format is not None:
        GIVEN_FORMAT.set(node, mark.format)


def mark_of(node: Node) -> QParams | None:
    """The format that a Mark gave to a node's value, or None."""
    return GIVEN_FORMAT.of(node)


def set_untraceable(node: Node, error: TraceError) -> None:
    """Record why a module is called as it is, instead of being looked into."""
    advice = f"; {error.fix}" if error.fix else ""
    UNTRACEABLE.set(node, f"{error.why} at {error.where}{advice}")


def why_untraceable(node: Node) -> str:
    """Why the node calls a module of the user's own code, or an empty text."""
    return UNTRACEABLE.of(node) or ""


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
