"""What a row sees of the operator that it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import Node

from fxq.export.draft import Draft
from fxq.ir.facts import info


class NoRow(Exception):
    """ONNX has no way to say this, or fxq does not know it; the text says what."""


@dataclass(frozen=True)
class Site:
    """One operator of the graph: the names of its operands, its attributes, its shapes.

    Sizes that the graph computes are ONNX vectors of int64; `names` leads to them.
    """

    draft: Draft
    node: Node
    operands: tuple[Any, ...]  # names, None, or lists of names
    attributes: Mapping[str, Any]
    names: Mapping[Node, str]

    @property
    def x(self) -> str:
        """The first operand."""
        return str(self.operands[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """The result's shape, for the example inputs."""
        return info(self.node).shape or ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The first operand's shape, for the example inputs."""
        first = self.node.args[0]
        first = first[0] if isinstance(first, list | tuple) else first
        return (info(first).shape if isinstance(first, Node) else None) or ()

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers that the operator computes with."""
        known = info(self.node).dtype or torch.float32
        return known if known.is_floating_point else torch.float32

    @property
    def call(self) -> Callable[..., str]:
        """Writes a node; see `Draft.call`."""
        return self.draft.call

    def number(self, value: float) -> str:
        """A scalar of the operator's type."""
        return self.draft.small(float(value), self.dtype)

    def ints(self, values: Sequence[int]) -> str:
        """A vector of constant int64."""
        return self.draft.small([int(v) for v in values])

    def axis(self, dim: int) -> int:
        """A dimension of the first operand, counted from the front."""
        return int(dim) % max(len(self.input_shape), 1)

    def sizes(self, value: Any) -> str:
        """A shape as a vector of int64, from numbers and from sizes that the graph computes."""
        if isinstance(value, Node):
            return self.names[value]
        if not any(isinstance(v, Node) for v in value):
            return self.ints(value)
        parts = [self.names[v] if isinstance(v, Node) else self.ints([v]) for v in value]
        return self.call("Concat", *parts, axis=0)

    def per_channel(self, name: str) -> str:
        """A vector along the second dimension of the first operand."""
        axes = range(1, len(self.input_shape) - 1)
        return self.call("Unsqueeze", name, self.ints(axes)) if axes else name

    def then(self, x: str, attributes: Mapping[str, Any], *more: Any) -> Site:
        """The place of an activation that a fused operator absorbed."""
        return replace(self, operands=(x, *more), attributes=attributes)


Row = Callable[[Site], str]


def fixed(value: Any, what: str) -> Any:
    """A value that must be known when the file is written."""
    parts = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(p, Node) for p in parts):
        raise NoRow(f"{what} depends on a size that is computed")
    return value


def each(value: Any, rank: int) -> list[int]:
    """One number for each of `rank` dimensions."""
    found = list(value) if isinstance(value, list | tuple) else [value]
    return [int(v) for v in (found * rank if len(found) == 1 else found)]
