"""What a kernel demands of a node: conditions with a reason, as rows of target tables list them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from fxq.ir.facts import info
from fxq.ir.integers import dequantize_weight
from fxq.ir.ops import attribute
from fxq.ir.rewriter import constant_of, is_constant


@dataclass(frozen=True)
class Limit:
    """One condition that a kernel puts on a node; `source` says where it is known from.

    `attribute` names the one that `holds` reads, so that a row can be checked when it is made.
    """

    reason: str
    holds: Callable[[Node], bool]
    source: str = ""
    attribute: str = ""


def rank(*allowed: int) -> Limit:
    """The input has one of these numbers of dimensions."""
    text = " or ".join(map(str, allowed))
    return Limit(f"the kernel takes {text}-dimensional input",
                 lambda node: len(info(node.args[0]).shape or ()) in allowed)  # type: ignore[arg-type]


def one_tensor() -> Limit:
    """One operand is computed at run time, and the others are numbers."""

    def holds(node: Node) -> bool:
        computed = [a for a in node.args if isinstance(a, Node) and not is_constant(a)]
        constants = (constant_of(a) for a in node.args if isinstance(a, Node) and is_constant(a))
        return len(computed) == 1 and info(computed[0]).shape == info(node).shape and all(
            c is not None and c.numel() == 1 for c in constants)

    return Limit("both operands are tensors of several shapes, or not known when compiling", holds)


def tensors() -> Limit:
    """All operands are tensors that are computed at run time: no numbers, no constants."""
    return Limit("one operand is a number or a constant",
                 lambda node: all(isinstance(a, Node) and info(a).shape is not None
                                  and not is_constant(a) for a in node.args))


def broadcast_channels() -> Limit:
    """Both operands have one shape, or the second is N×C×1×1."""

    def holds(node: Node) -> bool:
        a, b = (info(n).shape or () for n in node.args[:2])  # type: ignore[arg-type]
        return a == b or (len(a) == len(b) == 4 and (
            _per_channel(a, b) or _per_channel(b, a)))

    return Limit("the kernel takes operands of one shape, or one of N×C×1×1", holds)


def _per_channel(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[:2] == b[:2] and b[2:] == (1, 1)


def option(name: str, *allowed: Any, reason: str = "") -> Limit:
    """An attribute has one of these values."""
    text = " or ".join(map(repr, allowed))
    return Limit(reason or f"the kernel needs {name}={text}",
                 lambda node: attribute(node, name) in allowed, attribute=name)


def constant_weight() -> Limit:
    """The weight is known when compiling, so that it can be packed."""
    return Limit("its weight is computed at run time", lambda node: _is_stored(node.args[1]))


def _is_stored(weight: object) -> bool:
    integer = getattr(weight, "target", None) is dequantize_weight
    return integer or constant_of(weight) is not None


def nonempty_channels() -> Limit:
    """Zero channels: nothing to compute, and engines disagree about it."""
    return Limit("it has zero channels", lambda node: 0 not in (info(node).shape or (0,))[1:])
