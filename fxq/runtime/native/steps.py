"""One step of a program, before it has an address: its operands are values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node

from fxq.runtime.native.values import Value


class Unplanned(Exception):
    """A segment cannot run as a program for these inputs; its message says why."""


@dataclass
class Step:
    """An `Instruction` whose operands are values; `node` is what it computes."""

    op: str
    node: Node
    source: Value
    result: Value
    other: Value | None
    table: Tensor | None
    fields: dict[str, Any]

    @property
    def values(self) -> tuple[Value, ...]:
        """Its operands and its result."""
        return (self.source, self.result) + ((self.other,) if self.other else ())

    @property
    def is_flat(self) -> bool:
        """It works on single pixels, so that the images of a batch are its rows."""
        return all(v.h == v.w == 1 for v in self.values)
